import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn import BadInput, Key
from pydnn.cli import main
from pydnn.data import Vocabulary
from pydnn.parameters import pack
from pydnn.records import arrays, freeze

NAMES = ["tyra", "rex", "abel", "ana", "bo", "tyr"]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class PairParams:
    W: "FloatArray"  # noqa: F821 - a text, as `arrays` reads it


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class PairGrads:
    dW: "FloatArray"  # noqa: F821


@nn.described("stage")
def pairs(symbols: int):
    """The logits of the next symbol after each one: a table with a row for each symbol."""

    def init(key, shape):
        return PairParams(np.zeros((symbols + 1, symbols))), (*shape, symbols)

    def forward(params, A_prev, context):
        ids = A_prev.astype(int)
        return freeze(np.ascontiguousarray(np.moveaxis(params.W[ids], -1, -2))), ids

    def backward(params, ids, dA):
        dW = np.zeros_like(params.W)
        np.add.at(dW, ids, np.moveaxis(dA, -2, -1))
        return freeze(np.zeros(ids.shape, dA.dtype)), PairGrads(freeze(dW))

    return nn.Stage("pairs", init, forward, backward, lengths="kept", gradients=PairGrads)


def recipe_for(path, **changes):
    loss, optimizer = nn.softmax_cross_entropy(), nn.adam(learning_rate=0.2)
    K = len(nn.text(path).vocabulary.symbols)
    return nn.Recipe(str(path), pairs(K), loss, optimizer, 60, numerics="portable", **changes)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "names.txt"
    path.write_text("\n".join(NAMES) + "\n")
    return path


@pytest.fixture(scope="module")
def model(names):
    return nn.train(recipe_for(names)).model


def with_logits(model, W):
    """The model with the table W, such as one in which a symbol has the probability 1."""
    return attrs.evolve(model, parameters=pack(PairParams(W)))


def test_a_text_depends_on_its_number_and_not_on_how_many_there_are(model):
    many = model.sample(20, key=Key(3))
    assert model.sample(5, key=Key(3)) == many[:5]
    assert model.sample(20, key=Key(4)) != many
    assert model.sample() == model.sample(1, key=Key(1))
    assert model.sample(20, key=Key(3), most=2) == tuple(text[:2] for text in many)
    assert len(set(many)) > 5


def test_letters_are_drawn_in_the_proportions_of_the_model(model):
    [P] = model.predict(np.array([[model.vocabulary.start]]))
    drawn = [text[:1] for text in model.sample(1000, most=1)]
    shares = [drawn.count("" if s == "\n" else s) / 1000 for s in model.vocabulary.symbols]
    np.testing.assert_allclose(shares, P[:, 0], atol=0.06)


def test_at_temperature_0_each_letter_is_the_most_probable_one(model):
    logits = model.parameters["W"]
    ids, expected = model.vocabulary.start, []
    while not expected or expected[-1]:
        expected.append(int(logits[ids].argmax()))
        ids = expected[-1]
    text = model.vocabulary.text(expected[:-1])
    assert model.sample(3, temperature=0, key=Key(8)) == (text,) * 3
    assert all(model.sample(30, temperature=1e-300))  # of equal ones, any
    assert len(set(model.sample(50, temperature=5))) > len(set(model.sample(50, temperature=0.5)))


def test_a_text_ends_at_the_end_of_its_line_or_after_so_many_letters(model):
    K = len(model.vocabulary.symbols)
    never, at_once = np.zeros((K + 1, K)), np.zeros((K + 1, K))
    never[:, 0], at_once[:, 0] = -1000, 1000
    assert [len(t) for t in with_logits(model, never).sample(3, most=100)] == [100] * 3
    assert with_logits(model, at_once).sample(3) == ("", "", "")
    assert with_logits(model, at_once).sample(1, start="tyr") == ("tyr",)
    assert all(t.startswith("ab") for t in model.sample(5, start="ab"))


def test_the_network_sees_as_many_symbols_as_in_training(model, monkeypatch):
    K, seen = len(model.vocabulary.symbols), []
    from pydnn.jobs import sampling

    def watched(network, state, X, **options):
        seen.append(X.shape)
        return nn.output_of(network, state, X, **options)

    monkeypatch.setattr(sampling, "output_of", watched)
    never = np.zeros((K + 1, K))
    never[:, 0] = -1000
    with_logits(model, never).sample(2, most=8)
    assert seen == [(steps, 2) for steps in (1, 2, 3, 4, 5, 5, 5, 5)]


def test_windows_of_a_text_go_on_after_the_end_of_a_line(names):
    recipe = recipe_for(names, text="windows(4)")
    model = nn.train(recipe).model
    text = model.sample(1, most=100)[0]
    assert len(text) == 100
    assert text.count("\n") > 5


def test_words_are_separated_by_spaces_and_the_unknown_one_is_never_drawn(tmp_path):
    path = tmp_path / "verses.txt"
    path.write_text("the cat sat\nthe dog ran, and ran\n" * 3)
    K = len(nn.text(path, nn.data.lines(words=True)).vocabulary.symbols)
    recipe = attrs.evolve(recipe_for(path), network=pairs(K), text="lines(words=True)")
    model = nn.train(recipe).model
    texts = model.sample(30, temperature=3.0)
    assert not any("\ufffd" in text for text in texts)
    words = {"the", "cat", "sat", "dog", "ran", "ran,", "and", ","}
    assert all(word.strip(",") in words | {""} for text in texts for word in text.split())
    assert model.sample(1, temperature=0)[0].startswith("the ")


def test_a_model_keeps_its_symbols_in_its_file(model, tmp_path):
    model.save(tmp_path / "model.h5")
    again = nn.load_model(tmp_path / "model.h5", allow=[__name__])
    assert again == model
    assert again.vocabulary == model.vocabulary
    assert again.sample(5) == model.sample(5)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"count": 0}, "count is 0, expected an integer of at least 1"),
        ({"most": 0}, "most is 0, expected an integer of at least 1"),
        ({"count": 10**5, "most": 10**6}, "100,000 texts of up to 1,000,000 symbols are 100,000,"),
        ({"temperature": -1}, "temperature is -1, expected a number of at least 0"),
        ({"temperature": float("nan")}, "temperature is nan, expected a finite number"),
        ({"start": "x!"}, r"start: the letter '!' is not one of the \d+ symbols"),
    ],
)
def test_arguments_out_of_range_are_refused(model, arguments, problem):
    with pytest.raises(BadInput, match=problem):
        model.sample(**arguments)


def test_other_models_are_refused(model):
    line = nn.Recipe("a line", nn.dense(1), nn.mean_squared(), nn.adam(), 1)
    other = nn.train(line, nn.Batch([[0.0, 1]], [[1.0, 3]])).model
    with pytest.raises(BadInput, match="the model was not trained on a text, so it cannot write"):
        other.sample()
    wider = attrs.evolve(model, vocabulary=Vocabulary(["\n", *"abc"]))
    with pytest.raises(
        BadInput, match=r"the network gives \(1, \d+\) for a text of 1 symbols, exp"
    ):
        wider.sample()


def test_a_symbol_may_be_in_the_test_part_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "names.txt"
    path.write_text("".join(f"{name}\n" for name in [*NAMES * 3, *"cdfghijkmpquvwz"]))
    recipe = attrs.evolve(recipe_for("names.txt"), test=0.3, iterations=8)
    K = len(nn.text(path).vocabulary.symbols)
    assert set(nn.text(path, test=0.3).train.Y.ravel()) < set(range(K))
    (tmp_path / "recipe.toml").write_text(nn.recipes.toml.write_recipe(recipe))
    allow = ["--allow", __name__]
    for command in (
        ["train", "recipe.toml"],
        ["evaluate", "runs/0001"],
        ["replay", "runs/0001"],
        ["inspect", "runs/0001", "--step", "3"],
        ["resume", "runs/0001", "--iterations", "9"],
        ["evaluate", "runs/0001", "--data", "names.txt"],
        ["sample", "runs/0001", "--start", "zag"],
    ):
        assert main([*command, *allow]) == 0, capsys.readouterr().err
    lower = ["--text", "lines(lower=True)", "--iterations", "2"]
    assert main(["train", "recipe.toml", *lower, *allow]) == 0
    model = nn.load_model("runs/0002", allow=[__name__])
    assert model.recipe.text == {"lines": {"lower": True}}
    out = capsys.readouterr().out
    assert "all bits of 8 steps are the recorded ones" in out
    assert any(line.startswith("zag") for line in out.splitlines())


def test_a_network_needs_an_output_for_each_symbol(names):
    with pytest.raises(BadInput, match=r"the network has 30 outputs, but the text has \d+ diffe"):
        nn.train(attrs.evolve(recipe_for(names), network=pairs(30)))


# The command


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.h5"
    model.save(path)
    return [str(path), "--allow", __name__]


def test_the_command_prints_a_text_in_each_line(saved, model, capsys):
    assert main(["sample", *saved, "--count", "4", "--temperature", "0.8", "--seed", "3"]) == 0
    texts = model.sample(4, temperature=0.8, key=Key(3))
    assert capsys.readouterr().out.splitlines() == list(texts)
    assert main(["sample", *saved, "--count", "2", "--start", "ty", "--most", "1", "--json"]) == 0
    import json

    texts = model.sample(2, start="ty", most=1)
    assert json.loads(capsys.readouterr().out) == {"samples": list(texts)}


def test_the_command_escapes_what_a_terminal_would_obey(model, tmp_path, capsys):
    symbols = ["\n", "\x1b", *model.vocabulary.symbols[2:]]
    W = np.zeros((len(symbols) + 1, len(symbols)))
    W[:, 1] = 1000
    evil = attrs.evolve(with_logits(model, W), vocabulary=Vocabulary(symbols, lines=False))
    evil.save(tmp_path / "evil.h5")
    assert main(["sample", str(tmp_path / "evil.h5"), "--allow", __name__, "--most", "2"]) == 0
    assert capsys.readouterr().out == "\\x1b\\x1b\n"


def test_the_command_refuses_other_models_and_options(saved, tmp_path, capsys):
    line = nn.Recipe("a line", nn.dense(1), nn.mean_squared(), nn.adam(), 1)
    nn.train(line, nn.Batch([[0.0, 1]], [[1.0, 3]])).model.save(tmp_path / "line.h5")
    assert main(["sample", str(tmp_path / "line.h5")]) == 2
    assert "line.h5 was not trained on a text, so it cannot" in capsys.readouterr().err
    assert main(["sample", *saved, "--temperature", "-1"]) == 2
    assert "temperature is -1.0, expected a number" in capsys.readouterr().err
    assert main(["predict", saved[0], "cat.png", *saved[1:]]) == 2
    assert "was trained on a text, expected a model of images or t" in capsys.readouterr().err


@pytest.mark.parametrize(
    "plain",
    [
        [],
        "ab",
        {"symbols": "ab", "words": False, "lines": True},
        {"symbols": ["\n", "a"], "words": 0, "lines": True},
        {"symbols": ["\n", "a"], "words": False},
        {"symbols": ["\n", 3], "words": False, "lines": True},
        {"symbols": ["a", "\n"], "words": False, "lines": True},
        {"symbols": ["\n", "a" * 300], "words": True, "lines": True},
    ],
)
def test_a_damaged_vocabulary_in_a_file_is_refused(plain):
    from pydnn.jobs.model import _vocabulary

    with pytest.raises(BadInput, match=r"^inputs in model\.h5"):
        _vocabulary("model.h5", {"vocabulary": plain})
