import pytest

from pydnn import BadInput, MissingExtra, NotFinite
from pydnn.checks import NameTaken
from pydnn.workers.failures import TaskFailed, as_error, as_json


class OwnBadInput(BadInput):
    pass


@pytest.mark.parametrize(
    "error", [BadInput("a is 1."), MissingExtra("no dask."), NameTaken("b."), MemoryError("full")]
)
def test_an_error_of_pydnn_comes_back_as_the_same_class_and_line(error):
    back = as_error(as_json(error))
    assert (type(back), str(back)) == (type(error), str(error))


def test_an_error_of_a_class_of_the_user_comes_back_as_the_nearest_class_of_pydnn():
    assert type(as_error(as_json(OwnBadInput("a.")))) is BadInput


def test_not_finite_comes_back_with_its_iteration_and_place():
    back = as_error(as_json(NotFinite(3, "cost", state=None)))
    assert isinstance(back, NotFinite)
    assert (back.iteration, back.where) == (3, "cost")


def test_any_other_error_says_its_class_and_first_line():
    back = as_error(as_json(KeyError("x\x1b[2J")))
    assert isinstance(back, TaskFailed)
    assert str(back) == "a task failed in a worker: KeyError: 'x\\x1b[2J'"


@pytest.mark.parametrize("message", [None, {}, {"class": "OSError"}, {"class": 3, "line": "x"}])
def test_a_message_that_is_no_error_is_one_all_the_same(message):
    assert isinstance(as_error(message), TaskFailed)
