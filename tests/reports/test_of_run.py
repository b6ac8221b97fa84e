import re
from functools import partial
from html.parser import HTMLParser

import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn.jobs.job import prepare
from pydnn.reports import report_of_run
from pydnn.runs import Run


class Page(HTMLParser):
    """Collects the elements of a page, the addresses that it names, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.texts, self.policy = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if ("http-equiv", "Content-Security-Policy") in attributes:
            self.policy = dict(attributes)["content"]
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def text(run):
    return report_of_run(run)


def test_a_report_runs_nothing_and_asks_nobody(text):
    page = Page(text)
    assert "script" not in page.tags
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in page.addresses)
    assert "http:" not in text
    assert "https:" not in text
    assert page.policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_predictions_are_described_in_the_usual_words(text):
    text = Page(text).text
    words = ("true positive rate", "false positive rate", "predicted as", "(probability 0.")
    assert [word for word in words if word not in text] == []
    assert "taken for" not in text


def test_names_from_files_are_shown_as_text(text):
    page = Page(text)
    assert "b" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert "<b>no</b>" in page.text


def test_equal_runs_give_equal_bytes(run, text):
    assert report_of_run(run) == text


def test_the_first_sentence_says_what_was_trained_on_what(text):
    assert "A network of 17 parameters, trained on 32 of 40 examples of" in text
    assert "for 30 of 30 steps (finished)" in text


def test_the_metrics_of_all_parts_stand_side_by_side(run, points, text):
    batch = run.job.inputs.examples(points.test)
    expected = run.job.evaluation({"test": batch})(run.state(30))
    [row] = re.findall("<tr><td>cost</td>(.*?)</tr>", text)
    shown = re.findall(">([^<]+)</td>", row)
    assert len(shown) == 3
    assert float(shown[2]) == pytest.approx(expected["test cost"], rel=1e-3)


def test_what_is_measured_stands_at_the_iteration_of_its_state(tmp_path, recipe, points, recorded):
    whole = attrs.evolve(recipe, validation=0.0, evaluate_every=5)  # of all examples in each step
    text = report_of_run(recorded(tmp_path / "whole", whole, points))
    rows = re.findall(r"<tr><td>(\d+)</td><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td></tr>", text)
    of_both = {at: (batch, train) for at, batch, train in rows if batch and train}
    assert sorted(map(int, of_both)) == [5, 10, 15, 20, 25]
    assert all(batch == train for batch, train in of_both.values())


def test_every_section_is_there(text):
    names = re.findall('<section aria-labelledby="([a-z]+)"', text)
    assert names == [
        "results", "curves", "predictions", "mistakes", "network", "recipe", "verified", "record"
    ]  # fmt: skip


def test_the_recipe_can_be_copied(run, text):
    [code] = re.findall("<pre><code>(.*?)</code></pre>", text, flags=re.DOTALL)
    assert nn.recipes.read_recipe(Page(code).text) == run.recipe


def test_without_the_data_the_record_is_shown_and_a_note_says_what_is_missing(run):
    text = report_of_run(Run.open(run.path))
    assert "left out, because they need the data" in text
    assert "Norm of the gradient" in text
    assert "Calibration" not in text


def test_a_run_without_a_step_shows_its_recipe_and_how_to_go_on(tmp_path, recipe, points):
    job = prepare(recipe, points)
    with nn.runs.create_run(tmp_path / "none", job, points):
        pass
    for end in (tmp_path / "none").glob("end-*.json"):  # as if it was killed
        end.unlink()
    text = report_of_run(Run.open(tmp_path / "none", data=points))
    names = re.findall('<section aria-labelledby="([a-z]+)"', text)
    assert names == ["ending", "recipe", "verified", "record"]
    assert "for 0 of 30 steps (not ended)" in text
    assert "pydnn resume none" in text


def test_an_interrupted_run_is_reported_as_far_as_it_went(tmp_path, recipe, points, recorded):
    job = prepare(recipe, points)
    with nn.runs.create_run(tmp_path / "half", job, points) as recording:
        stream = nn.runs.record(recording, nn.jobs.run(job))
        for _ in range(12):
            next(stream)
        stream.close()
    text = report_of_run(Run.open(tmp_path / "half", data=points))
    assert re.search(r"for 1[12] of 30 steps", text)


def test_numbers_are_judged_by_residuals_and_named_rows(tmp_path, recorded):
    rng = nn.Key(2)
    size = rng.at("size").uniform(60)
    cities = np.where(rng.at("city").uniform(60) > 0.5, "Rome", "<i>Oslo</i>")
    table = nn.Table.of({"size": size, "city": cities, "price": 3 * size})
    recipe = nn.Recipe(
        data="houses", network="dense(1)", loss="mean_squared", optimizer="adam", iterations=20,
        target="price", standardize=True,
    )  # fmt: skip
    run = recorded(tmp_path / "houses", recipe, nn.data.table_data(table, "price"))
    text = report_of_run(run)
    assert "Predicted and true" in text
    assert '<th scope="col">city</th>' in text  # a text, to the left
    assert '<th class="number" scope="col">size</th>' in text
    mean, deviation = 3 * size.mean(), 3 * size.std()
    assert f"as they are scaled for training: (y - {mean:.6g}) / {deviation:.6g}." in text
    assert "<i>" not in text


def test_pictures_are_shown_as_pictures(tmp_path, recorded):
    rng = nn.Key(3)
    shape = (6, 5, 3)
    X = rng.at("X").uniform((6, 5, 3, 24))
    Y = (X.mean(axis=(0, 1, 2)) > 0.5).astype(float)[np.newaxis]
    data = nn.data.DataSet(nn.Batch(X, Y), nn.Batch(X[..., :0], Y[:, :0]), image_shape=shape)
    recipe = nn.Recipe(
        data="pictures", network="serial(conv(2, 3), relu, flatten, dense(1))",
        loss="sigmoid_cross_entropy", optimizer="adam", iterations=3,
    )  # fmt: skip
    text = report_of_run(recorded(tmp_path / "pictures", recipe, data))
    assert text.count("data:image/png;base64,") >= 1


def test_texts_are_shown_from_the_least_probable_one_on(tmp_path, recorded):
    (tmp_path / "names.txt").write_text("Ada\nBob\nEve\nIda\n")
    data = nn.text(tmp_path / "names.txt", nn.data.lines(lower=True))
    K = len(data.vocabulary.symbols)
    recipe = nn.Recipe(
        data="names", network=f"serial(embedding({K + 1}, 3), gru(4), dense({K}))",
        loss="softmax_cross_entropy", optimizer="adam", iterations=3,
    )  # fmt: skip
    run = recorded(tmp_path / "names", recipe, data)
    text = report_of_run(run)
    assert "Calibration" in text
    assert "(end of line)" in text
    assert "<title>b</title>" in text  # the curve of a symbol, not of its number
    rows = re.findall(r"<tr><td>(\d)</td><td>(\w+)</td><td class=.number.>([\d.]+)</td></tr>", text)
    assert sorted(name for _, name, _ in rows) == ["ada", "bob", "eve", "ida"]
    P = run.job.loss.predict(run.job.output(run.state(3), data.train.X, lengths=data.train.lengths))
    expected = {}
    for i, n in enumerate(data.train.lengths):
        true = data.train.Y[:n, i].astype(int)
        expected[str(i)] = float(P[np.arange(n), true, i].mean())
    assert [i for i, _, _ in rows] == sorted(expected, key=expected.get)
    assert all(float(shown) == pytest.approx(expected[i], rel=0.05) for i, _, shown in rows)


def test_a_training_that_diverged_is_reported(tmp_path, points, recipe):
    wild = attrs.evolve(
        recipe,
        loss=nn.describe(nn.mean_squared()),
        optimizer=nn.describe(nn.gradient_descent(learning_rate=1e60)),
        validation=0.0,
        evaluate_every=0,
    )
    job = prepare(wild, points)
    with nn.runs.create_run(tmp_path / "wild", job, points) as recording:
        ending = (nn.training.NotFinite,)
        trained = nn.train(job, through=partial(nn.runs.record, recording), ending=ending)
        recording.end(trained.why, state=trained.state)
    assert trained.why == "not finite"
    text = report_of_run(Run.open(tmp_path / "wild", data=points))
    assert "steps (diverged)" in text
    assert "Norm of the gradient" in text


def test_a_rotated_training_is_judged_on_the_examples_as_they_are(tmp_path, recorded, recipe):
    X = nn.Key(5).normal((30, 12))
    Y = (X[:1] > 0).astype(float)
    data = nn.data.DataSet(nn.Batch(X, Y), nn.Batch(X, Y))
    network = nn.describe(nn.serial(nn.dense(4), nn.relu(), nn.dense(1)))
    rotated = attrs.evolve(
        recipe, network=network, optimizer=nn.describe(nn.gradient_descent(learning_rate=0.1)),
        rotate=True, validation=0.0,
    )  # fmt: skip
    run = recorded(tmp_path / "rotated", rotated, data)
    assert run.job.inputs.rotation is not None
    text = report_of_run(run)
    [row] = re.findall("<tr><td>cost</td>(.*?)</tr>", text)
    train, test = re.findall(">([^<]+)</td>", row)
    assert train == test


def test_the_norms_of_layers_are_those_of_all_their_parameters(run, text):
    state = run.state(0)
    [row] = re.findall("<tr><td>0</td><td>dense</td>(.*?)</tr>", text)
    shown = float(re.findall(">([^<]*)</td>", row)[3])
    W, b = state.parameters["0/W"], state.parameters["0/b"]
    assert shown == pytest.approx(float(np.sqrt((W**2).sum() + (b**2).sum())), rel=1e-3)


def test_weights_are_shown_at_steps_from_the_first_to_the_last(text):
    assert "norm after 0 steps" in text
    assert "norm after 30 steps" in text
    labels = re.findall(r"<span>after (\d+) steps</span>", text)
    assert labels[:3] == ["0", "18", "30"]


def test_dead_units_are_shown_over_time(tmp_path, points, recipe, recorded):
    run = recorded(
        tmp_path / "dead",
        attrs.evolve(recipe, optimizer="gradient_descent(learning_rate=30.0)"),
        points,
    )
    text = report_of_run(run)
    assert "Share of units that are 0 for the whole batch" in text


def test_a_run_whose_bits_are_not_repeated_here_is_reported_with_a_note(tmp_path, points, recipe):
    def nudged(record):
        parameters = record.after.parameters
        vector = parameters.with_vector(parameters.vector * (1 + 1e-12))
        return record.with_fields(after=attrs.evolve(record.after, parameters=vector))

    job = prepare(recipe, points)
    with nn.runs.create_run(tmp_path / "elsewhere", job, points) as recording:
        step = job.train_step.insert_after("update", nudged)
        for _ in nn.runs.record(recording, nn.jobs.run(attrs.evolve(job, train_step=step))):
            pass
    text = report_of_run(Run.open(tmp_path / "elsewhere", data=points))
    assert "Steps of the network are shown as this machine computes them:" in text
    assert "Weights W of stage 0" in text
