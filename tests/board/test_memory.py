import pytest

from pydnn.board.memory import Memory


def test_what_was_used_longest_ago_goes_first():
    memory = Memory(most=3, size=len)
    for key in ("a", "b", "a", "cc"):
        memory.get(key, lambda key=key: key)
    assert "a" in memory
    assert "cc" in memory
    assert "b" not in memory
    assert memory.get("long", lambda: "x" * 9) == "x" * 9  # the newest stays, whatever its size
    assert "a" not in memory


def test_an_error_is_not_kept():
    memory = Memory(most=1)

    def fail():
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        memory.get("a", fail)
    assert memory.get("a", lambda: 1) == 1
