"""The laws of a stage, and the check of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build, describe
from pydnn.keys import Key
from pydnn.parameters import Layout, Slot, Template, Tree, layout_of, leaves
from pydnn.records import FloatArray, IntArray, freeze
from pydnn.sequences import valid_steps
from pydnn.stages.base import (
    Context,
    Shape,
    Stage,
    gradients_layout,
    into,
    map_stages,
)
from pydnn.testing.examples import DrawnStage, after_training, draw_stage
from pydnn.testing.gradients import check_problem
from pydnn.testing.nested import deviation, difference, leaves_of, map_arrays, snapshot
from pydnn.testing.problems import expect_float64, problem_of_stage
from pydnn.testing.purity import expect_runs, purity_faults
from pydnn.testing.reports import Proof, Trial

__all__ = ["assert_stage"]

_TOLERANCE = 1e-10  # between computations that only add in another order
_WIDE = 512  # examples, so that even a rare draw changes some of them
_DRAWS = 4
_Value = TypeVar("_Value")


def assert_stage(
    stage: Stage,
    *,
    shape_in: Shape = (3,),
    examples: int = 5,
    params: Tree | None = None,
    A_prev: FloatArray | None = None,
    lengths: IntArray | None = None,
    key: Key = Key(0),  # noqa: B008 - frozen
    mixes_examples: bool = False,
    shares_input: bool = False,
    keeps_mean: bool | None = None,
    rtol: float = 1e-7,
    entries: int = 48,
) -> Proof:
    """Check all laws of a stage or a network, in training and outside of it.

    - *init*: the same key gives the same bits, and parameters that fit into one vector;
    - *shapes*: outputs have the shape that `init` promised, and dA_prev that of A_prev;
    - *grads mirror params*: field by field, with the class that the stage declares;
    - *gradients*: each agrees with finite differences, see `check_gradients`;
    - *linear*: `backward` is linear in dA, even for large dA;
    - *purity*: all functions are pure, see `assert_pure`;
    - *examples*: a batch gives what its examples give one by one, to 1e-10, and gradients add up;
    - *padding*: a stage whose `lengths` is "kept" or "ended" gives the same bits for a sequence
      whatever the numbers after its last valid step, and to 1e-10 the same as for the sequence
      alone without padding; where dA is 0 in padding, so is dA_prev;
    - *training flag*: it has an effect if randomness or statistics are declared, and only then;
    - *key*: another key gives other bits if randomness is declared, and only then, and each inner
      stage of a combinator draws from its own key;
    - *mean of draws*: over many keys, the mean output is the output outside of training;
    - *statistics*: they keep their shapes, change in training, and affect evaluation, or the next
      training step if the stage reads them in training;
    - *elementwise*: if declared, a number of A depends on one number of A_prev only;
    - *backward_into*: it writes the gradients of `backward`, bit for bit;
    - *precision*: float32 stays float32;
    - *description*: a stage built from its description does the same.

    Args:
        stage: The stage or network to check.
        shape_in: Shape of one example, of any number of axes.
        examples: Number of examples in the batch, 2 or more.
        params: Parameters to use, in float64; by default they are drawn.
        A_prev: Input (…, m) to use, in float64; by default it is drawn.
        lengths: The number of valid steps of each example (m,), for all laws; by default all steps
            are valid in all laws but *padding*.
        key: The key to draw from.
        mixes_examples: Declares that the output for an example may depend on the other examples
            of the batch. A stage with statistics may do this in training without it.
        shares_input: Declares that outputs may be views of inputs, like those of `identity`.
        keeps_mean: Whether the mean over draws must be the output outside of training. By default
            this is checked for a random stage, but not for a combinator.
        rtol: The largest error of a gradient, relative to the largest gradient of its array.
        entries: The largest number of entries of an array that are compared one by one.

    Returns:
        The proof: which laws hold, with the tables of gradients.

    Raises:
        BrokenLaw: If a law is broken; it lists all faults by law.
        BadInput: If `stage` is not a stage, or other arguments do not fit it.

    Example:
        >>> from pydnn.testing import assert_stage
        >>> cube = nn.elementwise("cube", lambda Z, _: Z**3, lambda dA, Z, A, _: dA * 2 * Z**2)
        >>> try:
        ...     assert_stage(cube)
        ... except AssertionError as error:
        ...     print(str(error).splitlines()[0])
        stage cube breaks 'gradients':
    """
    if not isinstance(stage, Stage):
        raise BadInput(f"got {stage!r}, expected a stage: call its builder, e.g. dense(4).")
    if params is not None:
        for leaf in leaves(params):
            expect_float64("params", leaf)
    if A_prev is not None:
        expect_float64("A_prev", A_prev)
        A_prev = freeze(A_prev.copy())
    drawn = draw_stage(
        stage, shape_in, examples, key, params=params, A_prev=A_prev, lengths=lengths
    )
    arguments = {"params": drawn.params, "A_prev": drawn.A_prev, "context": drawn.training}
    hint = "fix it, or give arrays that it takes"
    expect_runs(f"forward of stage {stage.name}", stage.forward, arguments, hint=hint)
    trial = Trial(f"stage {stage.name}")
    _try_init(trial, stage, drawn, key)
    checked: dict[str, object] = {}  # results with right gradients
    contexts = {"training": drawn.training, "evaluation": Context(lengths=drawn.training.lengths)}
    if stage.statistics is not None:
        _try_statistics(trial, stage, drawn)
        if "statistics" in trial.broken:  # evaluation needs them
            return trial.proof()
        contexts["evaluation"] = after_training(stage, drawn)
    for when, context in contexts.items():
        mode = _Mode(stage, drawn, when, context)
        _try_shapes(trial, mode)
        if trial.broken.keys() & {"shapes", "purity"}:  # other laws would report the same fault
            break
        _try_gradients(trial, mode, rtol, entries, checked)
        _try_purity(trial, mode, shares_input)
        _try_linear(trial, mode)
        mixes = mixes_examples or (when == "training" and stage.statistics is not None)
        if not mixes and not (when == "training" and stage.random):
            _try_examples(trial, mode)
        _try_padding(trial, mode, mixes=mixes)
        _try_elementwise(trial, mode)
        _try_backward_into(trial, mode)
        _try_precision(trial, mode)
    else:
        _try_training_flag(trial, stage, drawn, contexts)
        _try_key(trial, stage, drawn, key)
        if keeps_mean or (keeps_mean is None and stage.random and not stage.parts):
            _try_mean_of_draws(trial, stage, drawn, contexts["evaluation"])
        if stage.description is not None:
            _try_description(trial, stage, drawn)
    return trial.proof()


@attrs.frozen(eq=False)
class _Mode:
    """A stage with the context of one mode: "training" or "evaluation"."""

    stage: Stage
    drawn: DrawnStage
    when: str
    context: Context

    def forward(self, A_prev: FloatArray, params: Tree | None = None) -> tuple[FloatArray, object]:
        tree = self.drawn.params if params is None else params
        return self.stage.forward(tree, A_prev, self.context)

    def both(
        self, A_prev: FloatArray, dA: FloatArray, lengths: IntArray | None = None
    ) -> tuple[FloatArray, FloatArray, Tree]:
        """Run forward and backward, and return A, dA_prev and grads."""
        context = attrs.evolve(self.context, lengths=lengths)
        A, cache = self.stage.forward(self.drawn.params, A_prev, context)
        dA_prev, grads = self.stage.backward(self.drawn.params, cache, dA)
        return A, dA_prev, grads


def _try_init(trial: Trial, stage: Stage, drawn: DrawnStage, key: Key) -> None:
    with trial.law("init") as fault:
        shape_in = drawn.A_prev.shape[:-1]
        result, faults = purity_faults(
            stage.init, key.at("init"), shape_in, layouts=False, names=["key", "shape_in"]
        )
        # The parameters of `init` are packed before they are used, and may be writable until then.
        for text in faults:
            if "can be written to" not in text:
                fault(f"init {text}")
        if result is None:
            return
        params, shape = result
        if not (isinstance(shape, tuple) and all(isinstance(n, int | np.integer) for n in shape)):
            fault(f"the promised shape is {shape!r}, expected a tuple of integers")
        layout = layout_of(params)
        if [s.shape for s in layout.slots] != [s.shape for s in layout_of(drawn.params).slots]:
            fault("params have other shapes than those of init")


def _try_shapes(trial: Trial, mode: _Mode) -> None:
    stage, drawn = mode.stage, mode.drawn
    with trial.law("shapes") as fault:
        A, cache = mode.forward(drawn.A_prev)
        if not isinstance(A, np.ndarray) or A.shape != drawn.dA.shape:
            shape = getattr(A, "shape", type(A).__name__)
            fault(f"A has shape {shape} in {mode.when}, init promised {drawn.dA.shape}")
            return
        arguments = {"params": drawn.params, "cache": cache, "dA": drawn.dA}
        what = f"backward of stage {stage.name}"
        expect_runs(what, stage.backward, arguments, hint="fix it")
        dA_prev, grads = stage.backward(drawn.params, cache, drawn.dA)
        if not isinstance(dA_prev, np.ndarray) or dA_prev.shape != drawn.A_prev.shape:
            shape = getattr(dA_prev, "shape", type(dA_prev).__name__)
            fault(f"dA_prev has shape {shape} in {mode.when}, A_prev has {drawn.A_prev.shape}")
        expected = gradients_layout(stage, layout_of(drawn.params))
        actual = _layout_or_none(grads)
        with trial.law("grads mirror params") as mirror_fault:
            if actual is None:
                mirror_fault(f"grads are {grads!r}, expected records of arrays, like params")
                fault("grads have no arrays to compare")
            elif _shapes(actual) != _shapes(expected):
                mirror_fault(f"grads have {_shapes(actual)}, params have {_shapes(expected)}")
                fault("grads have other shapes than params")
            elif _classes(actual) != _classes(expected):
                mirror_fault(
                    f"grads are {_classes(actual)}, the stage declares {_classes(expected)}"
                )


def _layout_or_none(grads: Tree) -> Layout | None:
    try:
        return layout_of(grads)
    except Exception:  # a user's backward may return anything
        return None


def _shapes(layout: Layout) -> list[tuple[int, ...]]:
    return [slot.shape for slot in layout.slots]


def _classes(layout: Layout) -> list[str]:
    def names(template: Template) -> Iterator[str]:
        if isinstance(template, tuple):
            for part in template:
                yield from names(part)
        else:
            yield template.cls.__name__

    return list(names(layout.template))


def _try_gradients(
    trial: Trial, mode: _Mode, rtol: float, entries: int, checked: dict[str, object]
) -> None:
    drawn = mode.drawn
    with trial.law("gradients") as fault:
        results = mode.both(drawn.A_prev, drawn.dA, mode.context.lengths)
        found = snapshot(dict(zip(("A", "dA_prev", "grads"), results, strict=True)))
        if checked and difference(checked, found) is None:
            return  # evaluation gives the bits of training, where differences agreed with them
        problem = problem_of_stage(mode.stage, drawn.params, drawn.A_prev, drawn.dA, mode.context)
        subject = f"{problem.subject} in {mode.when}"
        report = check_problem(attrs.evolve(problem, subject=subject), rtol=rtol, entries=entries)
        trial.tables.append(report)
        if mode.stage.ids is not None and mode.both(drawn.A_prev, drawn.dA)[1].any():
            fault(f"dA_prev is not 0 in {mode.when}, although ids have no gradient")
        if report.right:
            checked |= found
        else:
            fault(str(report))


def _try_purity(trial: Trial, mode: _Mode, shares_input: bool) -> None:
    stage, drawn = mode.stage, mode.drawn
    with trial.law("purity") as fault:
        # A cache may always share memory with the input, but an output only if this is declared.
        shares = ["result"] if shares_input else ["result[1]"]
        result, faults = purity_faults(
            stage.forward,
            drawn.params,
            drawn.A_prev,
            mode.context,
            shares=shares,
            names=["params", "A_prev", "context"],
        )
        for text in faults:
            fault(f"forward in {mode.when} {_named(text, 'A', 'cache')}")
        if result is None:
            return
        _, faults = purity_faults(
            stage.backward,
            drawn.params,
            result[1],
            drawn.dA,
            shares=["result"] if shares_input else [],
            names=["params", "cache", "dA"],
        )
        for text in faults:
            fault(f"backward in {mode.when} {_named(text, 'dA_prev', 'grads')}")


def _named(text: str, first: str, second: str) -> str:
    """Replace result[0] and result[1] in the text of a fault by the names of these results."""
    text = text.replace("result[0]", first).replace("result[1]", second)
    return text.replace("copy it", "copy it, or declare it with shares_input=True")


def _try_linear(trial: Trial, mode: _Mode) -> None:
    stage, drawn = mode.stage, mode.drawn
    with trial.law("linear") as fault:
        _, cache = mode.forward(drawn.A_prev)
        unscaled = _gradients(stage.backward(drawn.params, cache, drawn.dA))
        for factor in (-2.0, 1024.0):  # powers of two, whose products are exact
            dA = freeze(factor * drawn.dA)
            scaled = _gradients(stage.backward(drawn.params, cache, dA))
            for name, array in unscaled.items():
                mismatch = _deviation(factor * array, scaled[name])
                if mismatch:
                    fault(
                        f"{name} of backward is not {factor:g} times as large "
                        f"for {factor:g} dA: {mismatch}"
                    )


def _gradients(pair: tuple[FloatArray, Tree]) -> dict[str, FloatArray]:
    dA_prev, grads = pair
    return {"dA_prev": dA_prev} | {slot.name: leaf for slot, leaf in _named_leaves(grads)}


def _deviation(expected: FloatArray, actual: FloatArray, scale: float = 0.0) -> str | None:
    return deviation(expected, actual, tolerance=_TOLERANCE, scale=scale)


def _try_examples(trial: Trial, mode: _Mode) -> None:
    """Check that a batch gives what its examples give alone, and the sum of their gradients."""
    drawn = mode.drawn
    with trial.law("examples") as fault:
        lengths = mode.context.lengths
        A, dA_prev, grads = mode.both(drawn.A_prev, drawn.dA, lengths)
        m = drawn.A_prev.shape[-1]
        singles = [
            mode.both(
                freeze(drawn.A_prev[..., [i]]),
                freeze(drawn.dA[..., [i]]),
                None if lengths is None else lengths[[i]],
            )
            for i in range(m)
        ]
        scale = _largest(dA_prev)
        pairs = {
            "A": (np.concatenate([one[0] for one in singles], axis=-1), A),
            "dA_prev": (np.concatenate([one[1] for one in singles], axis=-1), dA_prev),
        }
        pairs |= _summed([one[2] for one in singles], grads)
        for name, (expected, actual) in pairs.items():
            mismatch = _deviation(expected, actual, scale)
            if mismatch:
                fault(
                    f"{name} of a batch is not that of its examples one by one in {mode.when}: "
                    f"{mismatch}; declare mixes_examples=True if this is intended"
                )


def _summed(parts: Sequence[Tree], grads: Tree) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return the sum of the gradients of parts of a batch, and that of the batch, by name."""
    sums = [sum(arrays) for arrays in zip(*map(leaves, parts), strict=True)]
    names = [f"the gradient of {slot.name}" for slot in layout_of(grads).slots]
    return {
        name: (np.asarray(total), gradient)
        for name, total, gradient in zip(names, sums, leaves(grads), strict=True)
    }


def _try_padding(trial: Trial, mode: _Mode, *, mixes: bool) -> None:
    """Check that nothing valid depends on the numbers after the last valid step of an example."""
    stage, drawn = mode.stage, mode.drawn
    steps, m = len(drawn.A_prev), drawn.A_prev.shape[-1]
    # Examples (T, n), or ids (T,) of tokens, which get features.
    are_sequences = drawn.A_prev.ndim == 3 or (drawn.A_prev.ndim, drawn.dA.ndim) == (2, 3)
    if stage.lengths == "refused" or not are_sequences or steps < 2:
        return
    with trial.law("padding") as fault:
        lengths = mode.context.lengths
        if lengths is None:
            lengths = freeze(1 + np.arange(m) % steps)
        valid = valid_steps(lengths, steps)

        def cut(array: FloatArray, *, ended: bool = False) -> FloatArray:
            """The array with 0 in the padding, if it has steps."""
            if ended:
                return array
            return freeze(np.where(_like(valid, array), array, 0.0))

        ended = stage.lengths == "ended"
        if not ended and len(drawn.dA) != steps:
            fault(f"lengths is 'kept', but {steps} steps become {len(drawn.dA)}")
            return
        X, dA = drawn.A_prev, cut(drawn.dA, ended=ended)
        ids = bool((np.floor(X) == X).all())  # so that only other ids are ids, too
        other = X[::-1] if ids else 1e3 * (X[::-1] - 2.0)
        padded = [X, freeze(np.where(_like(valid, X), X, other))]
        first, second = (mode.both(array, dA, lengths) for array in padded)
        results = [
            {"A": cut(A, ended=ended), "dA_prev": dA_prev}
            | {f"the gradient of {slot.name}": leaf for slot, leaf in _named_leaves(grads)}
            for A, dA_prev, grads in (first, second)
        ]
        for name, array in results[0].items():
            if not np.array_equal(array, results[1][name]):
                fault(f"{name} depends on numbers in the padding, in {mode.when}")
        if not np.array_equal(first[1], cut(first[1])):
            fault(f"dA_prev is not 0 in the padding, in {mode.when}")
        alone = mixes or (mode.when == "training" and stage.random)
        if trial.broken.get("padding") or alone:
            return
        parts = []
        for i, length in enumerate(map(int, lengths)):
            one = dA[..., [i]] if ended else dA[:length, ..., [i]]
            A, dA_prev, grads = mode.both(freeze(X[:length, ..., [i]]), freeze(one))
            parts.append(grads)
            pairs = {
                "A": (A, first[0][..., [i]] if ended else first[0][:length, ..., [i]]),
                "dA_prev": (dA_prev, first[1][:length, ..., [i]]),
            }
            for name, (expected, actual) in pairs.items():
                if mismatch := _deviation(expected, actual, _largest(first[1])):
                    fault(f"{name} of a sequence without its padding differs: {mismatch}")
        for name, (expected, actual) in _summed(parts, first[2]).items():
            if mismatch := _deviation(expected, actual, _largest(first[1])):
                fault(f"{name} is not the sum over sequences without padding: {mismatch}")


def _like(valid: NDArray[np.bool_], array: FloatArray) -> NDArray[np.bool_]:
    """Return `valid` (T, m) with as many axes as `array` (T, ..., m)."""
    return valid.reshape(len(valid), *[1] * (array.ndim - 2), -1)


def _named_leaves(tree: Tree) -> Iterator[tuple[Slot, FloatArray]]:
    return zip(layout_of(tree).slots, leaves(tree), strict=True)


def _largest(array: FloatArray) -> float:
    return float(np.abs(array).max(initial=0.0))


def _try_elementwise(trial: Trial, mode: _Mode) -> None:
    """Check that changing one number changes the output at its place, and nowhere else."""
    if not mode.stage.elementwise:
        return
    with trial.law("elementwise") as fault:
        A_prev, dA = mode.drawn.A_prev.copy(), mode.drawn.dA.copy()
        A_prev.flat[0] += 0.5
        dA.flat[0] += 0.5
        lengths = mode.context.lengths
        before = mode.both(mode.drawn.A_prev, mode.drawn.dA, lengths)
        after = mode.both(freeze(A_prev), freeze(dA), lengths)
        for name, old, new in zip(("A", "dA_prev"), before, after, strict=False):
            if not np.array_equal(old.ravel()[1:], new.ravel()[1:]):
                fault(
                    "elementwise=True is declared, but another number in one place changes "
                    f"{name} in other places, in {mode.when}"
                )


def _try_backward_into(trial: Trial, mode: _Mode) -> None:
    stage, drawn = mode.stage, mode.drawn
    with trial.law("backward_into") as fault:
        _, cache = mode.forward(drawn.A_prev)
        expected = snapshot(stage.backward(drawn.params, cache, drawn.dA), "result")
        layout = layout_of(drawn.params)
        vector = np.full(layout.size, np.nan)  # so that an entry it does not write stands out
        filled = gradients_layout(stage, layout)
        backward_into = into(stage)
        dA_prev = backward_into(drawn.params, cache, drawn.dA, layout.views(vector), True)
        mismatch = difference(expected, snapshot((dA_prev, filled.tree(vector)), "result"))
        if mismatch:
            fault(f"from backward_into, {_named(mismatch, 'dA_prev', 'grads')} from backward")
        vector[:] = np.nan
        backward_into(drawn.params, cache, drawn.dA, layout.views(vector), False)
        mismatch = difference(
            snapshot(stage.backward(drawn.params, cache, drawn.dA)[1], "grads"),
            snapshot(filled.tree(vector), "grads"),
        )
        if mismatch:
            fault(f"from backward_into if dA_prev is not needed, {mismatch} from backward")


def _try_precision(trial: Trial, mode: _Mode) -> None:
    stage, drawn = mode.stage, mode.drawn
    with trial.law("precision") as fault:
        params, A_prev, dA = (_in_float32(v) for v in (drawn.params, drawn.A_prev, drawn.dA))
        statistics = _in_float32(mode.context.statistics)
        context = attrs.evolve(mode.context, statistics=statistics)
        A, cache = stage.forward(params, A_prev, context)
        dA_prev, grads = stage.backward(params, cache, dA)
        named = {"A": A, "cache": cache, "dA_prev": dA_prev, "grads": grads}
        for name, value in named.items():
            for where, leaf in leaves_of(value, name):
                if isinstance(leaf, np.ndarray) and leaf.dtype == np.float64:
                    fault(f"{where} is float64 in {mode.when}, although all arguments are float32")


def _in_float32(value: _Value) -> _Value:
    return map_arrays(lambda a: freeze(a.astype(np.float32)) if a.dtype == np.float64 else a, value)


def _widened(stage: Stage, drawn: DrawnStage, context: Context) -> tuple[FloatArray, Context]:
    """Return the input repeated to at least `_WIDE` examples, and its context."""
    if stage.statistics is not None and stage.statistics.read_in_training:
        return drawn.A_prev, context  # a state for as many examples
    times = -(-_WIDE // drawn.A_prev.shape[-1])
    lengths = context.lengths
    if lengths is not None:
        context = attrs.evolve(context, lengths=freeze(np.tile(lengths, times)))
    return freeze(np.concatenate([drawn.A_prev] * times, axis=-1)), context


def _wide_output(stage: Stage, drawn: DrawnStage, context: Context) -> FloatArray:
    A, _ = stage.forward(drawn.params, *_widened(stage, drawn, context))
    return A


def _try_training_flag(
    trial: Trial, stage: Stage, drawn: DrawnStage, contexts: Mapping[str, Context]
) -> None:
    with trial.law("training flag") as fault:
        outputs = [_wide_output(stage, drawn, context) for context in contexts.values()]
        declared = stage.random or stage.statistics is not None
        mismatch = difference(*(snapshot(A, "A") for A in outputs))
        if mismatch and not declared:
            fault(
                "training changes the output, though neither randomness nor statistics are "
                f"declared: {mismatch}"
            )
        if declared and not mismatch:
            fault("randomness or statistics are declared, but training gives the same output")


def _try_key(trial: Trial, stage: Stage, drawn: DrawnStage, key: Key) -> None:
    with trial.law("key") as fault:
        contexts = [attrs.evolve(drawn.training, key=key.at("draw", i)) for i in range(2)]
        first, second = (snapshot(_wide_output(stage, drawn, c), "A") for c in contexts)
        mismatch = difference(first, second)
        if mismatch and not stage.random:
            fault(
                f"another key gives another output, though random=True is not declared: {mismatch}"
            )
        if stage.random and not mismatch:
            fault("random=True is declared, but another key gives the same output")
        if stage.random and stage.parts:
            keys = _keys_of_parts(stage, drawn)
            for path, used in keys.items():
                twins = [other for other, k in keys.items() if k == used and other != path]
                if twins:
                    fault(f"the stages at {path} and {twins[0]} draw from the same key")


def _try_mean_of_draws(trial: Trial, stage: Stage, drawn: DrawnStage, evaluation: Context) -> None:
    """Check that random changes, such as dropout's, cancel on average."""
    with trial.law("mean of draws") as fault:
        expected = _wide_output(stage, drawn, evaluation)
        key = drawn.training.key or Key(0)
        contexts = [attrs.evolve(drawn.training, key=key.at(i)) for i in range(_DRAWS)]
        errors = np.stack([_wide_output(stage, drawn, c) - expected for c in contexts])
        # A sum of many independent terms is nearly normal: it is beyond six standard deviations
        # once in 500 million draws. The second sum finds a stage that scales its output,
        # whose errors alone cancel.
        for terms in (errors, errors * expected):
            total, spread = float(terms.sum()), float(np.sqrt((terms * terms).sum()))
            if not abs(total) <= 6 * spread:
                fault(
                    f"over {_DRAWS} keys the mean output is off by {total / terms.size:.3g}, "
                    f"{abs(total) / spread:.0f} standard deviations; declare keeps_mean=False if "
                    "this is intended"
                )
                return


def _keys_of_parts(stage: Stage, drawn: DrawnStage) -> dict[str, Key | None]:
    """Return the key that each random inner stage gets in a forward pass, by path."""
    keys: dict[str, Key | None] = {}

    def recording(path: str, part: Stage) -> Stage:
        def forward(
            params: Tree, A_prev: FloatArray, context: Context
        ) -> tuple[FloatArray, object]:
            if part.random:
                keys[path] = context.key
            return part.forward(params, A_prev, context)

        return attrs.evolve(part, forward=forward)

    map_stages(recording, stage).forward(drawn.params, drawn.A_prev, drawn.training)
    return keys


def _try_statistics(trial: Trial, stage: Stage, drawn: DrawnStage) -> None:
    statistics = stage.statistics
    assert statistics is not None
    with trial.law("statistics") as fault:
        before = statistics.init(drawn.params)
        training = attrs.evolve(drawn.training, statistics=before)
        _, cache = stage.forward(drawn.params, drawn.A_prev, training)
        reads = statistics.read_in_training
        after, faults = purity_faults(
            statistics.absorb,
            before,
            cache,
            shares=["result"] if reads else [],  # the state after a batch may be that of its cache
            names=["statistics", "cache"],
        )
        for text in faults:
            fault(f"absorb {text.replace('result', 'statistics')}")
        if faults:
            return
        shapes = [_shapes(layout_of(s)) for s in (before, after)]
        if shapes[0] != shapes[1]:
            fault(f"shapes are {shapes[1]} after a step, {shapes[0]} before")
        if difference(snapshot(before), snapshot(after)) is None:
            fault("a training step does not change them")
        context = drawn.training if reads else Context(lengths=drawn.training.lengths)
        outputs = [
            snapshot(stage.forward(drawn.params, drawn.A_prev, c)[0], "A")
            for c in (attrs.evolve(context, statistics=s) for s in (before, after))
        ]
        if difference(*outputs) is None:
            when = "in training" if reads else "outside of training"
            fault(f"the output {when} does not depend on them")


def _try_description(trial: Trial, stage: Stage, drawn: DrawnStage) -> None:
    with trial.law("description") as fault:
        built = build(describe(stage), family="stage")
        reassembled = map_stages(lambda path, part: part, stage)
        for how, other in (("built again", built), ("rebuilt from its stages", reassembled)):
            mismatch = difference(*(_results(s, drawn) for s in (stage, other)))
            if mismatch:
                fault(f"{how}, {mismatch} before")
            if describe(other) != describe(stage):
                fault(f"{how}, it has the description {describe(other)}")


def _results(stage: Stage, drawn: DrawnStage) -> dict[str, object]:
    A, cache = stage.forward(drawn.params, drawn.A_prev, drawn.training)
    dA_prev, grads = stage.backward(drawn.params, cache, drawn.dA)
    return snapshot({"A": A, "dA_prev": dA_prev, "grads": grads})
