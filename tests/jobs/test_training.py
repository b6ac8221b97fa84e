import itertools
import pickle
import re
from functools import partial

import attrs
import numpy as np
import pytest

from pydnn import BadInput, Batch, Key, NotFinite
from pydnn.cli import main
from pydnn.data import DataSet, save_table
from pydnn.jobs.job import prepare, run
from pydnn.jobs.model import Model, load_model
from pydnn.jobs.training import train
from pydnn.recipes import Recipe, write_recipe
from pydnn.runs import Run, create_run, record, resume_run
from pydnn.training import tee


def points(key, m=60, features=3):
    X = Key(1).at("points", key).normal((features, m))
    return Batch(X, X[:1] + X[1:2] > 0)


DATA = DataSet(points("train"), points("test", 20), classes=("below", "above"))
RECIPE = Recipe(
    data="points",
    network="serial(dense(4), relu(), dense(1))",
    loss="sigmoid_cross_entropy()",
    optimizer="adam(learning_rate=0.05)",
    iterations=40,
    batches="mini_batches(16)",
    standardize=True,
)
STOPPING = attrs.evolve(
    RECIPE,
    iterations=400,
    validation=0.3,
    evaluate_every=5,
    watch="validation cost",
    patience=20,
)
WIDE = attrs.evolve(
    RECIPE,
    optimizer="momentum(learning_rate=0.05)",
    batches="full_batch()",
    standardize=False,
    rotate=True,
)


def wide_data():
    X = Key(2).normal((70, 12))
    return DataSet(Batch(X, X[:1] > 0), Batch(X[:, :3] + 1, X[:1, :3] > 0))


@pytest.mark.parametrize(
    ("recipe", "data"),
    [(RECIPE, DATA), (STOPPING, DATA), (WIDE, wide_data())],
    ids=["plain", "stopped early", "rotated"],
)
@pytest.mark.parametrize("option", ["--record", "--no-record"])
def test_three_lines_give_the_file_that_the_command_gives(tmp_path, recipe, data, option):
    save_table(tmp_path / "data.h5", data)
    recipe = attrs.evolve(recipe, data=str(tmp_path / "data.h5"))
    (tmp_path / "recipe.toml").write_text(write_recipe(recipe), encoding="utf-8")
    argv = [str(tmp_path / "recipe.toml"), "--run", str(tmp_path / "run"), "--quiet", option]
    assert main(["train", *argv]) == 0

    trained = train(recipe)
    trained.model.save(tmp_path / "model.h5")

    theirs = load_model(tmp_path / "run" / "model.h5")
    assert trained.model == theirs
    assert (tmp_path / "model.h5").read_bytes() == (tmp_path / "run" / "model.h5").read_bytes()
    predicted = trained.model.predict(data.test.X)
    assert predicted.tobytes() == theirs.predict(data.test.X).tobytes()


def test_costs_and_states_are_those_of_the_stream():
    trained = train(RECIPE, DATA)
    pairs = list(run(prepare(RECIPE, DATA.train)))
    assert trained.why == "finished"
    assert trained.iteration == 40
    assert trained.costs.tolist() == [info.cost for _, info in pairs]
    assert trained.state == trained.last == pairs[-1][0]
    assert trained.error is None
    assert trained.model.classes == ("below", "above")
    with pytest.raises(ValueError, match="read-only"):
        trained.costs[0] = 0


def test_a_data_set_is_prepared_as_its_training_part_and_its_test_part_is_checked():
    job, plain = prepare(RECIPE, DATA), prepare(RECIPE, DATA.train)
    assert job.batch is DATA.train
    assert job.data == plain.data
    assert job.recipe.arithmetic is job.numerics is plain.numerics
    with pytest.raises(BadInput, match="test part: label 2"):
        prepare(RECIPE, attrs.evolve(DATA, test=Batch(DATA.test.X, DATA.test.Y * 2.0)))


def test_the_state_to_keep_is_the_best_one_where_training_stops_early():
    costs = []
    trained = train(STOPPING, DATA, through=partial(tee, to=lambda s, i: costs.append(i.measured)))
    assert trained.why == "stopped early"
    assert trained.last.iteration == len(trained.costs) < 400
    assert trained.iteration == trained.last.iteration - 20
    measured = {k: m["validation cost"] for k, m in enumerate(costs, 1) if m}
    assert trained.iteration == min(measured, key=measured.get)
    held_back = trained.job.data["validation"]
    score = trained.job.evaluation({"validation": held_back})(trained.state)["validation cost"]
    assert score == min(measured.values())
    assert trained.model.iteration == trained.iteration


def test_a_wide_job_predicts_raw_examples():
    data = wide_data()
    trained = train(WIDE, data)
    plain = train(attrs.evolve(WIDE, rotate=False), data)
    assert trained.job.inputs.rotation is not None
    assert trained.state.parameters["0/W"].shape == (4, 16)
    assert trained.model.parameters["0/W"].shape == (4, 70)
    for X in (data.train.X, data.test.X, Key(3).normal((70, 5))):
        np.testing.assert_allclose(trained.model.predict(X), plain.model.predict(X), rtol=1e-9)
    inside = trained.job.output(trained.state, trained.job.data["train"].X)
    np.testing.assert_allclose(
        trained.model.predict(data.train.X), trained.job.loss.predict(inside), rtol=1e-9
    )


def test_predictions_do_not_depend_on_the_memory_order():
    model = train(RECIPE, DATA).model
    X = DATA.test.X
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    forms = [X, np.ascontiguousarray(X), np.asfortranarray(X), X.tolist(), strided]
    assert len({model.predict(form).tobytes() for form in forms}) == 1


def test_a_model_is_saved_and_loaded(tmp_path):
    model = train(RECIPE, DATA).model
    model.save(tmp_path / "model.h5")
    assert Model.load(tmp_path / "model.h5") == model
    with pytest.raises(BadInput, match="exists"):
        model.save(tmp_path / "model.h5")
    model.save(tmp_path / "model.h5", replace=True)


def test_a_stream_can_be_watched_cut_and_recorded(tmp_path):
    whole = train(RECIPE, DATA)
    cut = train(RECIPE, DATA, through=lambda stream: itertools.islice(stream, 7))
    assert (cut.iteration, cut.why) == (7, "cut short")
    assert cut.costs.tolist() == whole.costs[:7].tolist()
    job = prepare(RECIPE, DATA.train)
    with create_run(tmp_path / "run", job, DATA) as recording:
        train(job, DATA, through=lambda s: record(recording, itertools.islice(s, 20)))
    with resume_run(tmp_path / "run", data=DATA) as resumed:
        trained = train(
            resumed.job,
            DATA,
            through=partial(record, resumed.recording),
            costs=resumed.run.costs,
            watched=resumed.watched,
        )
    assert trained.model == whole.model
    assert Run.open(tmp_path / "run", data=DATA).costs.tolist() == whole.costs.tolist()


def test_the_error_that_ends_a_training_is_raised_or_kept_as_requested():
    diverging = attrs.evolve(
        RECIPE, loss="mean_squared()", optimizer="gradient_descent(learning_rate=1e200)"
    )
    with pytest.raises(NotFinite) as raised:
        train(diverging, DATA)
    trained = train(diverging, DATA, ending=(NotFinite,))
    assert trained.why == "not finite"
    assert str(trained.error) == str(raised.value)
    assert trained.state == raised.value.state
    assert len(trained.costs) == trained.iteration

    def interrupt(state, info):
        if info.iteration == 3:
            raise KeyboardInterrupt

    interrupted = train(
        RECIPE, DATA, through=partial(tee, to=interrupt), ending=(KeyboardInterrupt,)
    )
    assert (interrupted.why, interrupted.iteration) == ("interrupted", 3)


def test_a_stream_that_holds_a_step_back_still_keeps_its_best_state():
    def late(stream):
        held = next(stream)
        for pair in stream:
            yield held
            held = pair

    on_costs = attrs.evolve(STOPPING, watch="cost", patience=400, evaluate_every=0)
    trained = train(on_costs, DATA, through=late)
    assert trained.last.iteration == len(trained.costs) == 399
    assert trained.iteration == trained.costs.argmin()


OTHER = points("other")
REFUSED = {
    "other data than the job has": (
        lambda: train(prepare(RECIPE, DATA.train), OTHER),
        "data is not what the job was prepared with",
    ),
    "a test part of other features": (
        lambda: train(RECIPE, DataSet(DATA.train, Batch(DATA.test.X, DATA.test.Y * 2.0))),
        "test part: label 2",
    ),
    "names for more classes": (
        lambda: train(RECIPE, attrs.evolve(DATA, classes=("a", "b", "c"))),
        "names 3 classes, but the network has outputs for 2",
    ),
    "a name of no data set": (lambda: train(RECIPE), "there is no data set 'points'"),
    "examples of other features": (
        lambda: train(RECIPE, DATA).model.predict(np.ones((4, 2))),
        r"X has shape \(4, 2\), expected \(3, m\)",
    ),
    "one example without its axis": (
        lambda: train(RECIPE, DATA).model.predict(np.ones(3)),
        r"X has shape \(3,\), expected \(3, m\)",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(BadInput, match=message):
        wrong()


SMALL = Recipe(
    "mine", "dense(1)", "sigmoid_cross_entropy()", "gradient_descent(learning_rate=0.1)", 2
)
HALVES = Batch([[0.0, 1.0, 2.0, 3.0]], [[0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("recipe.toml", HALVES), "job is 'recipe.toml', expected a recipe or a job"),
        ((SMALL, HALVES.X), "expected examples or the name of a data set: give nn.Batch"),
        ((SMALL, (HALVES.X,)), "expected examples or the name of a data set: give nn.Batch"),
        ((SMALL, (HALVES.X.T, HALVES.Y)), r"expected one column per example in both: pass X\.T"),
        ((SMALL, 0), "data is 0, expected examples or the name"),
        ((prepare(SMALL, HALVES), HALVES.X), "expected examples or the name of a data set"),
    ],
)
def test_what_is_neither_a_job_nor_data_is_refused_in_one_line(arguments, message):
    with pytest.raises(BadInput, match=message) as refused:
        train(*arguments)
    assert "\n" not in str(refused.value)


def test_a_job_is_asked_whether_a_test_part_fits_it():
    data = DataSet(HALVES, Batch([[np.nan]], [[1]]))
    with pytest.raises(BadInput, match="X holds nan"):
        train(prepare(SMALL, HALVES), data)


def test_an_error_of_a_training_can_be_sent_between_processes():
    error = NotFinite(3, "update", prepare(SMALL, HALVES).state)
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.iteration, copied.where, str(copied)) == (3, "update", str(error))
    assert copied.state == error.state


def test_a_training_prints_as_one_line():
    line = r"<Trained: finished after 2 steps, cost 3\.\d{6} in the last>"
    assert re.fullmatch(line, repr(train(SMALL, HALVES)))
    assert attrs.evolve(SMALL, dtype=np.dtype("float32")) == attrs.evolve(SMALL, dtype="float32")
