import numpy as np
import pytest

from pydnn import BadInput
from pydnn.workers import Spec, Task, serial
from pydnn.workers.tasks import Kind, Prepared, kind_of


def tasks(count=3):
    return [Task("echo", Spec(), {"n": n, "x": np.full(2, n)}) for n in range(count)]


def test_results_come_in_the_order_of_the_tasks():
    with serial() as executor:
        assert [result["n"] for result in executor.map(tasks())] == [0, 1, 2]
        assert [(k, result["n"]) for k, result in executor.each(iter(tasks()))] == [
            (0, 0),
            (1, 1),
            (2, 2),
        ]


def test_each_takes_a_task_only_when_the_one_before_is_finished():
    taken = []
    stream = serial().each(taken.append(n) or task for n, task in enumerate(tasks()))
    next(stream)
    assert taken == [0]


def test_an_unknown_task_is_refused():
    with pytest.raises(BadInput, match="echoo"):
        serial().map([Task("echoo", Spec())])


def test_specs_are_prepared_once_and_the_oldest_is_forgotten(monkeypatch):
    made = []
    kind = Kind(lambda spec: made.append(spec.recipe) or spec.recipe, lambda p, a: {"p": p})
    monkeypatch.setattr("pydnn.workers.tasks.ECHO", kind)
    prepared = Prepared(most=2)
    for text in "aabbaca":
        assert prepared.run(Task("echo", Spec(recipe=text)))["p"] == text
    assert made == ["a", "b", "c"]
    prepared.run(Task("echo", Spec(recipe="b")))
    assert made == ["a", "b", "c", "b"]
    prepared.forget(Spec(recipe="b").digest)
    prepared.run(Task("echo", Spec(recipe="b")))
    assert made == ["a", "b", "c", "b", "b"]


def test_what_lives_in_this_process_is_not_prepared():
    live = object()
    kind = kind_of("echo")
    assert Prepared()._of(Task("echo", Spec(live=live)), kind) is live


def test_the_digest_names_texts_numbers_and_arrays():
    specs = [
        Spec(),
        Spec(recipe="a"),
        Spec(place="a"),
        Spec(facts={"a": 1}),
        Spec(allow=("a",)),
        Spec(arrays={"X": np.zeros(2)}),
        Spec(arrays={"X": np.zeros(2, "f4")}),
        Spec(arrays={"Y": np.zeros(2)}),
    ]
    assert len({spec.digest for spec in specs}) == len(specs)
    assert Spec(arrays={"X": np.zeros(2)}).digest == specs[5].digest
