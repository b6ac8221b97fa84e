import json
import sys

import pytest

from pydnn.descriptions.builders import builders_of


def test_all_parts_are_listed_by_family_with_options_and_defaults(command):
    status, out, err = command("parts")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert any(line.split() == ["optimizer"] for line in lines)
    for builder in builders_of():
        if ":" not in builder.name:
            assert any(line.strip().startswith(f"{builder.name}(") for line in lines)
    assert "  dense(units, initializer=he_normal())" in out
    assert "adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08)" in out
    assert "serial(*stages)" in out


def test_a_family_or_one_part_can_be_asked_for(command):
    _, out, _ = command("parts", "loss")
    assert [line for line in out.splitlines() if not line.startswith(" ")] == ["loss"]
    _, out, _ = command("parts", "sigmoid_cross_entropy")
    assert out.startswith("sigmoid_cross_entropy(positive_weight=1.0, label_smoothing=0.0), a part")
    assert "Args:\n    positive_weight: " in out


def test_parts_are_printed_for_programs(command):
    _, out, _ = command("parts", "dense", "--json")
    [part] = json.loads(out)["parts"]
    assert (part["name"], part["family"]) == ("dense", "stage")
    assert part["options"] == [
        {"name": "units", "several": False},
        {"name": "initializer", "several": False, "default": {"he_normal": {}}},
    ]
    _, out, _ = command("parts", "--json")
    assert {"adam", "relu", "tutorial"} <= {part["name"] for part in json.loads(out)["parts"]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sgd", "there is no part 'sgd': did you mean 'gradient_descent'?"),
        ("stages", "there is no part 'stages': did you mean 'stage'?"),
        ("os:system", "os:system is not a builder: decorate a function of that name"),
        ("nowhere_at_all:f", "the module nowhere_at_all of nowhere_at_all:f was not found: add"),
    ],
)
def test_an_unknown_part_is_refused_in_one_line(command, name, message):
    status, out, err = command("parts", name)
    assert (status, out) == (2, "")
    assert err.startswith(f"pydnn: {message}")
    assert err.count("\n") == 1


def test_a_part_of_the_users_own_is_shown_by_its_name(command, tmp_path, monkeypatch):
    (tmp_path / "my_part.py").write_text(
        "from pydnn import described, relu\n\n\n"
        '@described("stage")\ndef bent(*, much=3):\n    """A stage."""\n    return relu()\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        status, out, _ = command("parts", "my_part:bent")
        assert (status, out.splitlines()[0]) == (0, "my_part:bent(much=3), a part of family stage")
    finally:
        sys.modules.pop("my_part", None)
