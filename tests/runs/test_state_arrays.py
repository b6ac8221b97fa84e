import enum
import inspect
import tracemalloc
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
import toolz

import pydnn
from pydnn import (
    BadInput,
    Batch,
    GradientTransformation,
    Key,
    adam,
    batch_norm,
    build,
    cosine_decay,
    dense,
    describe,
    optimizers,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.jobs.job import prepare, steps
from pydnn.optimizers import accumulate, chain, descend, look, skip_not_finite
from pydnn.parameters import pack
from pydnn.recipes.layouts import layouts_of
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.runs.state_arrays import arrays_of, state_fingerprint, state_from
from pydnn.stages.initializers import zeros
from pydnn.training import TrainState

# The options without a default that each builder needs.
OPTIONS = {
    "learning_rate": cosine_decay(0.01, steps=9),
    "limit": 0.5,
    "factor": 0.5,
    "variance": 0.01,
    "rate": 0.01,
    "batches": 2,
    "name": "seen",
    "names": ("b",),
    "inner": adam(learning_rate=0.01),
}
BUILDERS = {
    name: getattr(optimizers, name)
    for name in optimizers.__all__
    if getattr(getattr(optimizers, name), "family", "") == "optimizer" and name != "chain"
}


def made_with_options(builder):
    args, options = [], {}
    for parameter in inspect.signature(builder).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args = OPTIONS[parameter.name]
        elif parameter.default is parameter.empty:
            options[parameter.name] = OPTIONS[parameter.name]
    return builder(*args, **options)


OPTIMIZERS = {name: made_with_options(builder) for name, builder in BUILDERS.items()}
OPTIMIZERS |= {
    "chain": chain(look("g", at="vector"), chain(), accumulate(adam(learning_rate=0.1), batches=2)),
    "constant rate": adam(learning_rate=0.01),
    "nested": skip_not_finite(accumulate(chain(look("x"), descend(0.1)), batches=2)),
}


def test_the_table_has_every_builder_of_an_optimiser():
    assert len(BUILDERS) > 25
    assert {"adam", "lion", "look", "skip_not_finite", "average_parameters"} <= set(OPTIMIZERS)


def trained(optimizer, *, dtype="float64", count=3):
    """The recipe of a small job, and its state after some steps."""
    recipe = Recipe(
        data="none",
        network=describe(serial(dense(3), batch_norm(), relu(), dense(1))),
        loss=describe(sigmoid_cross_entropy()),
        optimizer=describe(optimizer),
        iterations=9,
        dtype=dtype,
    )
    X = Key(1).normal((4, 20)).astype(dtype)
    job = prepare(recipe, Batch(X, (X[:1] > 0).astype(dtype)))
    return recipe, toolz.last([job.state, *(s for s, _ in toolz.take(count, steps(job)))])


def reading(arrays):
    """Read arrays like a file does: with exactly the dtype and shape asked for."""

    def read(name, dtype, shape):
        array = arrays[name]
        assert dtype is np.number or array.dtype == np.dtype(dtype), name
        assert array.ndim == len(shape), name
        assert all(isinstance(n, str) or n == m for n, m in zip(shape, array.shape, strict=True))
        return array.copy()

    return read


def read_again(recipe, state, arrays=None):
    arrays = arrays_of(state) if arrays is None else arrays
    iteration = int(arrays["iteration"])
    return state_from(reading(arrays), recipe, shape=(4,), iteration=iteration, key=state.key)


def typed(value):
    """Every leaf with its type, dtype, shape and bits, and every record with its class."""
    if isinstance(value, np.ndarray | np.generic):
        return type(value), value.dtype, value.shape, value.tobytes()
    if isinstance(value, tuple):
        return tuple(map(typed, value))
    if attrs.has(type(value)):
        return type(value), [typed(getattr(value, f.name)) for f in attrs.fields(type(value))]
    return type(value), value.hex() if isinstance(value, float) else value


@pytest.mark.sampled(4)
@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_state_comes_back_to_the_bit_and_to_the_type(optimizer, dtype, count):
    recipe, state = trained(optimizer, dtype=dtype, count=count)
    again = read_again(recipe, state)
    assert typed(again.optimizer_state) == typed(state.optimizer_state)
    assert typed(again.parameters.vector) == typed(state.parameters.vector)
    assert typed(again.statistics.vector) == typed(state.statistics.vector)
    assert again == state
    assert state_fingerprint(again) == state_fingerprint(state)
    for array in (again.parameters.vector, again.statistics.vector):
        assert not array.flags.writeable


def test_the_names_tell_where_a_number_lies():
    _, state = trained(chain(adam(learning_rate=0.1), descend(OPTIONS["learning_rate"])))
    names = list(arrays_of(state))
    assert names[:3] == ["iteration", "parameters", "statistics"]
    assert names[-2:] == ["optimizer.1.count", "optimizer.1.learning_rate"]
    assert "optimizer.0.0.gradients" in names


def test_any_bit_of_a_state_is_in_its_fingerprint():
    recipe, state = trained(adam(learning_rate=OPTIONS["learning_rate"]))
    fingerprints = [state_fingerprint(state)]
    for name, array in arrays_of(state).items():
        changed = array.copy()
        words = changed.reshape(-1).view(np.uint8)
        words[0] ^= 1
        fingerprints.append(
            state_fingerprint(read_again(recipe, state, arrays_of(state) | {name: changed}))
        )
    assert len(set(fingerprints)) == len(fingerprints) > 5


@pytest.mark.parametrize("name", ["parameters", "statistics", "optimizer.0.gradients"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_refused(name, value):
    recipe, state = trained(adam(learning_rate=0.1))
    spoilt = arrays_of(state) | {name: np.full_like(arrays_of(state)[name], value)}
    if name.startswith("optimizer") and np.isinf(value):  # a clipped norm may be infinite
        assert read_again(recipe, state, spoilt).parameters == state.parameters
        return
    with pytest.raises(BadInput, match=f"^{name} holds {value}"):
        state_fingerprint(read_again(recipe, state, spoilt))


# The states of a user's own optimizers


def remembering(value):
    """A state of no training, with `value` as the state of the optimizer."""
    return TrainState(0, pack(()), value, Key(1))


@attrs.frozen
class Tally:
    count: int
    inner: Any


@attrs.frozen
class Strict:
    count: int = attrs.field(validator=attrs.validators.le(100))
    _hidden: float
    both: tuple = attrs.field(kw_only=True)
    doubled: int = attrs.field(init=False)

    def __attrs_post_init__(self):
        object.__setattr__(self, "doubled", 2 * self.count)


class Pair(NamedTuple):
    a: int
    b: int


class Colour(enum.IntEnum):
    RED = 1


REFUSED = {
    "a mapping": ({"a": 1}, r"^optimizer is a dict, which no run can hold, expected arrays"),
    "a list": ((Tally(1, [np.zeros(3)]),), r"^optimizer\.0\.inner is a list, which no run"),
    "nothing": (Tally(1, (None,)), r"^optimizer\.inner\.0 is a NoneType, which no run"),
    "a text": (Tally(1, "x"), r"^optimizer\.inner is a str, which no run"),
    "a text of numpy's": (Tally(1, np.str_("x")), r"^optimizer\.inner is a str_, which no run"),
    "objects": (Tally(1, np.array([None])), r"^optimizer\.inner is a ndarray, which no run"),
    "complex": (Tally(1, np.zeros(1, complex)), r"^optimizer\.inner is a ndarray, which no run"),
    "a long float": (Tally(1, np.longdouble(1)), r"^optimizer\.inner is a longdouble, which no"),
    "a pair with names": (Tally(1, Pair(1, 2)), r"^optimizer\.inner is a Pair, which no run"),
    "a colour": (Tally(Colour.RED, ()), r"^optimizer\.count is a Colour, which no run"),
    "a huge integer": (Tally(2**63, ()), r"^optimizer\.count is an integer of more than 64 bits"),
    "nan": (Tally(1, float("nan")), r"^optimizer\.inner holds nan, which has no fingerprint"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_no_file_can_hold_is_refused_by_its_path(value, message):
    with pytest.raises(BadInput, match=message) as caught:
        state_fingerprint(remembering(value))
    assert "\n" not in str(caught.value)


@pydnn.descriptions.builders.described("optimizer")
def strict_descent(*, start: int) -> GradientTransformation:
    def init(params):
        return Strict(start, 0.5, both=(np.float32(0.25), True))

    def update(grads, state, params, context=None):
        both = (state.both[0] * np.float32(2), not state.both[1])
        after = Strict(state.count + 1, state._hidden / 3, both=both)
        return -grads, after

    return GradientTransformation(init, update)


def test_a_user_s_own_record_comes_back():
    recipe, state = trained(strict_descent(start=5))
    again = read_again(recipe, state)
    assert typed(again.optimizer_state) == typed(state.optimizer_state)
    assert (again.optimizer_state.count, again.optimizer_state.doubled) == (8, 16)
    assert type(again.optimizer_state.both[0]) is np.float32
    assert type(again.optimizer_state.both[1]) is bool


def test_a_number_that_a_record_refuses_is_refused_in_one_line():
    recipe, state = trained(strict_descent(start=5))
    arrays = arrays_of(state) | {"optimizer.count": np.array(101)}
    with pytest.raises(
        BadInput, match=r"^optimizer does not fit \('count' must be <= 100"
    ) as caught:
        read_again(recipe, state, arrays)
    assert "\n" not in str(caught.value)


# Networks of any claimed size


@pytest.mark.parametrize(
    "network",
    [serial(dense(3), batch_norm(), relu(), dense(1)), serial(dense(1, initializer=zeros()))],
    ids=["with statistics", "without"],
)
def test_layouts_are_those_of_the_initial_state(network):
    recipe = attrs.evolve(trained(adam(learning_rate=0.1))[0], network=describe(network))
    parameters, statistics = layouts_of(recipe, (4,))
    state = prepare(recipe, Batch(np.eye(4), np.array([[0.0, 1, 0, 1]]))).state
    assert parameters == state.parameters.layout
    assert statistics == state.statistics.layout


def test_a_network_of_any_size_is_laid_out_or_refused_without_its_memory():
    recipe = trained(adam(learning_rate=0.1))[0]
    huge = attrs.evolve(recipe, network={"dense": {"units": 1 << 20}})
    tracemalloc.start()
    assert layouts_of(huge, (1 << 27,))[0].size == (1 << 47) + (1 << 20)
    limits = {1 << 40: "more than any machine", 1 << 70: "expected at most 92233"}
    for units, limit in limits.items():
        endless = attrs.evolve(recipe, network={"dense": {"units": units}})
        with pytest.raises(BadInput, match=limit) as caught:
            layouts_of(endless, (1 << 40,))
        assert "\n" not in str(caught.value)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_descriptions_build_the_optimisers_of_the_table():
    for name, optimizer in OPTIMIZERS.items():
        assert describe(build(describe(optimizer))) == describe(optimizer), name
