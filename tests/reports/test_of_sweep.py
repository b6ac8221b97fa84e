import re

import attrs
import pytest

import pydnn as nn
from pydnn.checks import BadInput
from pydnn.reports import report_of_sweep
from pydnn.reports.of_sweep import _explained, _Sweep, _varied
from pydnn.sweeps import run_sweep, sweep
from pydnn.sweeps.recorded import SweptRun, swept_runs

RECIPE = nn.Recipe(
    data="<script>alert(1)</script>",
    network="serial(dense(4), relu, dense(1))",
    loss="sigmoid_cross_entropy",
    optimizer="momentum(learning_rate=0.1)",
    iterations=12,
    validation=0.2,
)


@pytest.fixture(scope="module")
def data():
    X = nn.Key(1).at("X").normal((2, 60))
    Y = (X[:1] > 0).astype(float)
    return nn.data.DataSet(nn.Batch(X[:, :40], Y[:, :40]), nn.Batch(X[:, 40:], Y[:, 40:]))


@pytest.fixture(scope="module")
def result(data):
    over = {"optimizer.learning_rate": [0.5, 0.001, 1e300], "network.0.units": [4, 8]}
    return run_sweep(sweep(RECIPE, data, seeds=2, over=over))


@pytest.fixture(scope="module")
def text(result):
    return report_of_sweep(result)


def shown(text):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", text))


def run_of(score, **changes):
    """A training with one score, whose recipe differs from the others in `changes`."""
    scores = {"validation cost": score}
    return SweptRun("one", attrs.evolve(RECIPE, **changes), scores, 0, [], [])


def test_a_report_of_a_sweep_runs_nothing_and_shows_names_as_text(text):
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src &#x27;none&#x27;" in text


def test_equal_sweeps_give_equal_bytes(result, text):
    assert report_of_sweep(result) == text


def test_the_lead_says_what_was_varied_and_what_is_best(result, text):
    best = result.outcomes[result.best()]
    words = shown(text)
    assert "3 values of optimizer.learning_rate" in words
    assert "2 values of network.0.units" in words
    assert "2 seeds" in words
    assert "4 failed" in words
    rate = best.setting["optimizer.learning_rate"]
    assert f"training {result.best()}, seed {best.recipe.seed}, " in words
    assert f"optimizer.learning_rate {rate}." in words


def test_the_option_that_matters_most_comes_first(text):
    rows = re.findall(r"<tr><td>(optimizer\.learning_rate|network\.0\.units)</td>", text)
    assert rows[:2] == ["optimizer.learning_rate", "network.0.units"]
    charts = re.findall(r"<figcaption>([^<]*)</figcaption>", text)
    assert charts[:2] == ["optimizer.learning_rate", "network.0.units"]


def test_the_values_of_a_chart_of_numbers_are_in_order(text):
    marks = re.findall(r'y="225" class="middle">([^<]*)</text>', text)
    assert marks[:3] == ["0.001", "0.5", "1e+300"]


def test_the_best_trainings_are_in_the_order_of_the_score(result, text):
    table = text.split('id="best"')[1].split("</table>")[0]
    names = re.findall(r'class="whole">training (\d+)<', table)
    scores = [result.outcomes[int(n)].scores["validation cost"] for n in names]
    assert len(names) == 8
    assert scores == sorted(scores)


def test_failed_trainings_come_with_the_reason_and_what_they_share(text):
    words = shown(text.split('id="failed"')[1])
    assert "optimizer.learning_rate 1e+300 4 of 4" in words
    assert "network.0.units 4 2 of 6" not in words
    assert words.count("training stopped being finite at iteration") == 4


def test_another_score_can_decide(result):
    text = report_of_sweep(result, by="test accuracy")
    best = max(o.scores.get("test accuracy", 0) for o in result.outcomes)
    assert f"The best test accuracy is {best:.4g}".rstrip("0") in shown(text)
    with pytest.raises(BadInput, match="there is no score 'speed'"):
        report_of_sweep(result, by="speed")


def test_folds_have_columns_and_the_best_setting_has_the_best_mean(data):
    over = {"optimizer.learning_rate": [0.5, 0.001]}
    early = {"watch": "validation cost", "patience": 100, "evaluate_every": 4}
    result = run_sweep(sweep(attrs.evolve(RECIPE, **early), data, folds=3, over=over))
    text = report_of_sweep(result)
    words = shown(text)
    own = result.by_setting[result.best_setting()]
    mean = own.spread("validation cost").mean
    assert f"best mean validation cost is {mean:.4f}"[:-1] in words
    rate = own.outcomes[0].setting["optimizer.learning_rate"]
    assert f"over 3 trainings: optimizer.learning_rate {rate}." in words
    assert "fold 1 fold 2 fold 3" in words
    [row] = re.findall(rf"<tr><td>{rate}</td>((?:<td class=.number.>[^<]*</td>){{3}})</tr>", text)
    scores = [o.scores["validation cost"] for o in own.outcomes]
    assert re.findall(r">([\d.]+)<", row) == [f"{score:.4f}" for score in scores]


def test_a_sweep_of_which_all_trainings_diverged_says_so(data):
    wild = {"optimizer.learning_rate": [1e300]}
    text = report_of_sweep(run_sweep(sweep(RECIPE, data, over=wild)))
    assert "No training has scores yet." in text
    assert "stopped being finite" in text


def test_seeds_alone_are_a_sweep_too(data):
    text = report_of_sweep(run_sweep(sweep(RECIPE, data, seeds=3)))
    assert "All trainings have the same options." in text
    assert 'class="band s0"' in text


def test_a_recorded_sweep_has_the_page_of_its_result(data, tmp_path):
    plan = sweep(RECIPE, data, over={"optimizer.learning_rate": [0.5, 1e300]})
    result = run_sweep(plan, record=tmp_path / "swept")
    text = report_of_sweep(tmp_path / "swept")
    assert report_of_sweep(tmp_path / "swept") == text
    assert "1 failed" in text
    score = result.outcomes[0].scores["validation cost"]
    assert f"The best validation cost is {score:.4g}".rstrip("0") in shown(text)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (
            [{"optimizer": "adam(learning_rate=0.1)"}, {"optimizer": "adam(learning_rate=0.2)"}],
            ["optimizer.learning_rate"],
        ),
        (
            [{"optimizer": "adam(learning_rate=0.1)"}, {"optimizer": "lion(learning_rate=0.1)"}],
            ["optimizer"],
        ),
        ([{"network": "serial(dense(1), dense(1))"}, {"network": "dense(1)"}], ["network"]),
        (
            [{"network": f"serial(dense({n}), relu, dense(1))"} for n in (1, 2)],
            ["network.0.units"],
        ),
        (
            [{"penalties": (f"l2_penalty(strength={s})",)} for s in (0.1, 0.2)],
            ["penalties.strength"],
        ),
        ([{"penalties": ()}, {"penalties": ("l2_penalty(strength=0.1)",)}], ["penalties"]),
        ([{"iterations": 5}, {"iterations": 6, "dtype": "float32"}], ["iterations", "dtype"]),
        ([{"standardize": True}, {"standardize": True}], []),
    ],
)
def test_options_have_the_names_that_varied_takes(changes, names):
    recipes = [attrs.evolve(RECIPE, **change) for change in changes]
    assert [name for name, _ in _varied(recipes)] == names


def test_an_option_that_decides_everything_explains_everything():
    runs = [run_of(s, iterations=n) for s, n in [(0.1, 5), (0.2, 5), (3e9, 7), (4.0, 7)]]
    known = _Sweep.of([*runs, run_of(float("nan"), iterations=9)], "")
    # Ranks 1 and 2 against 3 and 4: of a variance of 5, 4 is between the values.
    assert _explained(known, known.options["iterations"]) == pytest.approx(0.8)
    assert _explained(known, ["x"] * 5) == 0


def test_equal_scores_share_their_rank():
    runs = [run_of(0.5, iterations=n) for n in (5, 5, 7, 7)]
    known = _Sweep.of(runs, "")
    assert _explained(known, known.options["iterations"]) == 0


def test_long_values_that_look_alike_stay_apart():
    long = ["x" * 50 + letter + "x" * 50 for letter in "ab"]
    runs = [run_of(0.1 * i, watch="", data=name) for i, name in enumerate(long)]
    known = _Sweep.of(runs, "")
    from pydnn.reports.of_sweep import _options

    chart = "".join(_options(known))
    assert chart.count("<circle") == 2
    assert "(2)" in chart


def test_the_runs_of_a_result_have_its_numbers(result):
    runs = swept_runs(result)
    assert [run.name for run in runs][:2] == ["training 0", "training 1"]
    assert runs[0].scores == result.outcomes[0].scores


def test_the_reason_comes_without_the_advice_that_all_share(text):
    assert "try a smaller learning rate" not in text.split('id="failed"')[1].split("<details")[0]
