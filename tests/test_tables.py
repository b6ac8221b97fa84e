import re
from html.parser import HTMLParser

import attrs
import numpy as np
from helpers import texts
from hypothesis import given
from hypothesis import strategies as st
from small_runs import recorded, small_recipe

from pydnn import (
    Batch,
    Recipe,
    dense,
    dropout,
    make_train_step,
    mean_squared,
    relu,
    residual,
    serial,
    train,
)
from pydnn.optimizers import gradient_descent
from pydnn.runs import Run
from pydnn.stages import Stage
from pydnn.tables import html_table, text_table
from pydnn.testing import gradient_report


def test_columns_of_text_are_as_wide_as_their_widest_cell():
    assert text_table(["a", "long"], [["wide", "b"], ["c", ""]]) == "a     long\nwide  b\nc"


class Cells(HTMLParser):
    """Return the text that a browser shows in each cell, and the tags of the page."""

    def __init__(self):
        super().__init__()
        self.tags, self.cells = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_data(self, text):
        self.cells[-1] += text


@given(st.lists(texts(), min_size=1, max_size=4))
def test_no_text_of_a_table_is_taken_for_html(texts):
    page = Cells()
    page.feed(html_table("<script>alert(1)</script>", texts, [texts]))
    assert page.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert page.cells[0] == "<script>alert(1)</script>"
    assert len(page.cells) == 1 + 2 * len(texts)


def test_text_that_would_shift_its_neighbors_is_escaped():
    assert "\\u202e" in html_table("\u202e", [], [])


def test_long_tables_say_how_many_rows_they_leave_out():
    page = html_table("many", ["row"], [[str(i)] for i in range(1000)])
    assert page.count("<tr>") == 1 + 200 + 1
    assert "and 800 more" in page


# How notebooks show networks, steps, reports and runs


def cells_of(value):
    page = Cells()
    page.feed(value._repr_html_())
    return page.cells


def test_a_network_is_a_table_of_its_stages():
    network = serial(dense(3), residual(dense(3), relu()), dropout(keep_prob=0.5))
    assert cells_of(network) == [
        "network", "parameters", "stage",
        "0", "dense(3)",
        "1", "residual",
        "1/0", "dense(3)",
        "1/1", "relu()",
        "2", "dropout(keep_prob=0.5)",
    ]  # fmt: skip
    assert cells_of(dense(2))[-2:] == ["", "dense(2)"]
    odd = Stage("<b>odd</b>", *[dense(1).forward] * 3)
    assert cells_of(serial(odd))[-1] == "Stage(name='<b>odd</b>')"


def test_a_step_is_a_table_of_its_parts():
    cells = cells_of(make_train_step(dense(1), mean_squared(), gradient_descent(learning_rate=1)))
    assert cells[:7] == ["training step", "part", "needs", "gives", "forward", "", "AL, cache"]


def test_a_gradient_report_is_a_table_of_its_arrays():
    report = gradient_report(dense(2))
    cells = cells_of(report)
    assert cells[0] == str(report).splitlines()[0]
    assert {"A_prev", "W", "b"} <= set(cells)


def test_a_run_is_a_table_of_what_it_trained(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    run = Run.open(tmp_path / "run")
    rows = dict(zip(*[iter(cells_of(run)[1:])] * 2, strict=True))
    assert rows["steps"] == "12 of 12"
    assert float(rows["last cost"]) == float(f"{run.costs[-1]:.9g}")
    assert rows["loss"] == "sigmoid_cross_entropy()"
    assert rows["network"].startswith("serial(")


def curves_of(value):
    """The points of each curve that a notebook draws."""
    paths = re.findall(r'<path d="([^"]*)"', value._repr_html_())
    return [len(re.split("[ML]", path)) - 1 for path in paths]


def test_a_run_has_a_curve_of_its_costs_and_of_those_that_it_measured(tmp_path):
    recipe = small_recipe(tmp_path, validation=0.2, evaluate_every=4)
    recorded(tmp_path / "run", recipe)
    run = Run.open(tmp_path / "run")
    assert curves_of(run) == [12, 3, 3]
    rows = dict(zip(*[iter(cells_of(run)[1:])] * 2, strict=True))
    last = run.rows.columns["measured", "validation cost"].values[-1]
    assert float(rows["last validation cost"]) == float(f"{last:.9g}")


def test_a_training_and_its_model_show_how_it_went():
    recipe = Recipe("<b>line</b>", "dense(1)", "mean_squared", "adam", iterations=7)
    trained = train(recipe, Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]))
    assert curves_of(trained) == curves_of(trained.model) == [7]
    assert {"7 of 7, finished", "<b>line</b>"} <= set(cells_of(trained))
    assert {"parameters", "2"} <= set(cells_of(trained.model))


def test_a_model_without_costs_has_no_curve():
    recipe = Recipe("a line", "dense(1)", "mean_squared", "adam", iterations=1)
    model = train(recipe, Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])).model
    model = attrs.evolve(model, costs=np.zeros(0))
    assert curves_of(model) == []
    assert "last cost" not in cells_of(model)
