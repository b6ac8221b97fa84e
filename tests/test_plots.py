from pathlib import Path

import numpy as np
import pytest

from pydnn import BadInput
from pydnn.plots import expect_plottable, plot_costs, plot_sweep, save_plot

pytest.importorskip("matplotlib")


def test_the_plot_shows_every_cost_with_the_learning_rate_as_its_title():
    figure = plot_costs([0.7, 0.5, 0.4], title="Learning rate = 0.0075")
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0.7], [1, 0.5], [2, 0.4]])
    assert axes.get_title() == "Learning rate = 0.0075"
    assert axes.get_xlabel() == "iterations"
    assert axes.get_ylabel().startswith("cost")


def test_the_plot_of_a_sweep_shows_every_run_the_means_and_the_best():
    nan = np.nan
    costs = {
        "rate=1": np.array([[1.0, 0.5, 0.25], [2.0, 1.5, nan]]),
        "rate=2": np.array([[1.0, 1e9, nan]]),
    }
    figure = plot_sweep(costs, best=("rate=1", 0), title="2 seeds", ylabel="cost (nats)")
    (axes,) = figure.axes
    first, second, mean, third, other_mean, row, star = axes.lines
    np.testing.assert_array_equal(first.get_ydata(), costs["rate=1"][0])
    np.testing.assert_array_equal(second.get_ydata(), costs["rate=1"][1])
    np.testing.assert_array_equal(mean.get_xydata(), [[0, 1.5], [1, 1], [2, 0.25]])
    np.testing.assert_array_equal(other_mean.get_xydata(), [[0, 1], [1, 1e9]])
    np.testing.assert_array_equal(star.get_xydata(), [[2, 0.25]])
    np.testing.assert_array_equal(row.get_ydata(), costs["rate=1"][0])
    assert mean.get_linewidth() > 2 * third.get_linewidth()
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "mean of 2, rate=1", "mean of 1, rate=2", "best",
    ]  # fmt: skip
    assert axes.get_ylim() == (0, pytest.approx(4.2))  # a run without bound leaves room
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("iterations", "cost (nats)")


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_plot_is_saved_in_the_format_of_its_ending(tmp_path, suffix, magic):
    path = tmp_path / f"costs.{suffix}"
    save_plot(plot_costs([1.0, 0.5], title="x"), path)
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_costs([], title="x"), "there are no costs"),
        (
            lambda: plot_sweep({"": np.zeros((2, 0))}, best=None, title="x", ylabel="y"),
            "there are no costs",
        ),
        (lambda: expect_plottable(Path("costs")), "costs has no ending that tells its format"),
        (
            lambda: expect_plottable(Path("costs.pgn")),
            "no picture format 'pgn': did you mean 'png'",
        ),
        (lambda: expect_plottable(Path("no-such/costs.png")), "no-such is no directory"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()
