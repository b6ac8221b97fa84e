"""The laws of a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build, describe
from pydnn.keys import Key
from pydnn.parameters import Layout, Template, Tree, layout_of, leaves
from pydnn.records import FloatArray, freeze
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
from pydnn.testing.nested import difference, leaves_of, rebuilt, snapshot, unlike
from pydnn.testing.problems import expect_float64, problem_of_stage
from pydnn.testing.purity import expect_runs, purity_faults
from pydnn.testing.reports import Proof, Trial

__all__ = ["assert_stage"]

_TOLERANCE = 1e-10  # between ways that differ in the order of additions alone
_WIDE = 512  # examples among which a declared draw must show
_DRAWS = 4
_Value = TypeVar("_Value")


def assert_stage(
    stage: Stage,
    *,
    shape_in: Shape = (3,),
    examples: int = 5,
    params: Tree | None = None,
    A_prev: FloatArray | None = None,
    key: Key = Key(0),  # noqa: B008 - frozen
    mixes_examples: bool = False,
    shares_input: bool = False,
    keeps_mean: bool | None = None,
    rtol: float = 1e-7,
) -> Proof:
    """Try all laws of a stage at once, in training and outside of it.

    - *init*: the same key gives the same bits, and parameters that can be laid in one vector;
    - *shapes*: outputs have the shape that `init` promised, dA_prev that of A_prev;
    - *grads mirror params*: field by field, of the class that the stage declares;
    - *gradients*: each is what differences give, see `check_gradients`;
    - *linear*: `backward` is linear in dA, however large;
    - *purity*: of all functions, see `assert_pure`;
    - *examples*: a batch is so many batches of one, to 1e-10, and gradients add up;
    - *training flag*: it matters only where randomness or statistics are declared;
    - *key*: another one gives other bits where randomness is declared, and only there, and each
      part of a combinator draws from a place of its own;
    - *mean of draws*: over many keys, it is what is given outside of training;
    - *statistics*: keep their shapes, and are used outside of training;
    - *elementwise*: where it says so, a number of A depends on one of A_prev alone;
    - *backward_into*: it writes the gradients that `backward` makes, bit for bit;
    - *precision*: float32 stays float32;
    - *description*: what is built again does the same.

    Args:
        stage: What is to be proved right; a network is a stage.
        shape_in: Shape of one example.
        examples: How many there are, 2 or more.
        params: Instead of drawn ones, in float64.
        A_prev: Instead of a drawn input (…, m), in float64.
        key: Where everything is drawn from.
        mixes_examples: Declares that examples of a batch have a part in each other's outputs even
            where no statistics are kept; those that keep some may do so in training.
        shares_input: Declares that outputs may be views of inputs, as those of `identity` are.
        keeps_mean: Whether draws average to what is given outside of training; by default they
            do for a stage that is random itself, and are not tried for one made of parts.
        rtol: The largest error of a gradient, beside the largest gradient of its array.

    Raises:
        BrokenLaw: With all that was found, by the names of laws.
        BadInput: If it is no stage, or is given what does not fit.
    """
    if not isinstance(stage, Stage):
        raise BadInput(f"got {stage!r}, expected a stage: call its builder, e.g. dense(4).")
    if params is not None:
        for leaf in leaves(params):
            expect_float64("params", leaf)
    if A_prev is not None:
        expect_float64("A_prev", A_prev)
        A_prev = freeze(A_prev.copy())
    drawn = draw_stage(stage, shape_in, examples, key, params=params, A_prev=A_prev)
    given = {"params": drawn.params, "A_prev": drawn.A_prev, "context": drawn.training}
    hint = "mend it, or give arrays that it takes"
    expect_runs(f"forward of stage {stage.name}", stage.forward, given, hint=hint)
    trial = Trial(f"stage {stage.name}")
    _try_init(trial, stage, drawn, key)
    contexts = {"training": drawn.training, "evaluation": Context()}
    if stage.statistics is not None:
        _try_statistics(trial, stage, drawn)
        if "statistics" in trial.broken:  # there is no use without them
            return trial.proof()
        contexts["evaluation"] = after_training(stage, drawn)
    for when, context in contexts.items():
        run = _Run(stage, drawn, when, context)
        _try_shapes(trial, run)
        if trial.broken.keys() & {"shapes", "purity"}:  # more would be told of the same fault
            break
        _try_gradients(trial, run, rtol)
        _try_purity(trial, run, shares_input)
        _try_linear(trial, run)
        mixes = mixes_examples or (when == "training" and stage.statistics is not None)
        if not mixes and not (when == "training" and stage.random):
            _try_examples(trial, run)
        _try_elementwise(trial, run)
        _try_backward_into(trial, run)
        _try_precision(trial, run)
    else:
        _try_training_flag(trial, stage, drawn, contexts)
        _try_key(trial, stage, drawn, key)
        if keeps_mean or (keeps_mean is None and stage.random and not stage.parts):
            _try_mean_of_draws(trial, stage, drawn, contexts["evaluation"])
        if stage.description is not None:
            _try_description(trial, stage, drawn)
    return trial.proof()


@attrs.frozen(eq=False)
class _Run:
    """One way of calling a stage: in training, or outside of it."""

    stage: Stage
    drawn: DrawnStage
    when: str
    context: Context

    def forward(self, A_prev: FloatArray, params: Tree | None = None) -> tuple[FloatArray, object]:
        tree = self.drawn.params if params is None else params
        return self.stage.forward(tree, A_prev, self.context)

    def both(self, A_prev: FloatArray, dA: FloatArray) -> tuple[FloatArray, FloatArray, Tree]:
        A, cache = self.forward(A_prev)
        dA_prev, grads = self.stage.backward(self.drawn.params, cache, dA)
        return A, dA_prev, grads


def _try_init(trial: Trial, stage: Stage, drawn: DrawnStage, key: Key) -> None:
    with trial.law("init") as fault:
        shape_in = drawn.A_prev.shape[:-1]
        made, faults = purity_faults(
            stage.init, key.at("init"), shape_in, layouts=False, names=["key", "shape_in"]
        )
        # What `init` hands out is packed before it is used, and may be writable until then.
        for text in faults:
            if "can be written to" not in text:
                fault(f"init {text}")
        if made is None:
            return
        params, shape = made
        if not (isinstance(shape, tuple) and all(isinstance(n, int | np.integer) for n in shape)):
            fault(f"the promised shape is {shape!r}, expected a tuple of integers")
        layout = layout_of(params)
        if [s.shape for s in layout.slots] != [s.shape for s in layout_of(drawn.params).slots]:
            fault("parameters have other shapes than those of init")


def _try_shapes(trial: Trial, run: _Run) -> None:
    stage, drawn = run.stage, run.drawn
    with trial.law("shapes") as fault:
        A, cache = run.forward(drawn.A_prev)
        if not isinstance(A, np.ndarray) or A.shape != drawn.dA.shape:
            found = getattr(A, "shape", type(A).__name__)
            fault(f"A has shape {found} in {run.when}, init promised {drawn.dA.shape}")
            return
        given = {"params": drawn.params, "cache": cache, "dA": drawn.dA}
        what = f"backward of stage {stage.name}"
        expect_runs(what, stage.backward, given, hint="mend it")
        dA_prev, grads = stage.backward(drawn.params, cache, drawn.dA)
        if not isinstance(dA_prev, np.ndarray) or dA_prev.shape != drawn.A_prev.shape:
            found = getattr(dA_prev, "shape", type(dA_prev).__name__)
            fault(f"dA_prev has shape {found} in {run.when}, A_prev has {drawn.A_prev.shape}")
        expected = gradients_layout(stage, layout_of(drawn.params))
        found_layout = _layout_or_none(grads)
        with trial.law("grads mirror params") as unlike:
            if found_layout is None:
                unlike(f"grads are {grads!r}, expected records of arrays as params are")
                fault("grads have no arrays that could be compared")
            elif _shapes(found_layout) != _shapes(expected):
                unlike(f"grads have {_shapes(found_layout)}, params have {_shapes(expected)}")
                fault("grads have other shapes than params")
            elif _classes(found_layout) != _classes(expected):
                unlike(
                    f"grads are {_classes(found_layout)}, the stage declares {_classes(expected)}"
                )


def _layout_or_none(grads: Tree) -> Layout | None:
    try:
        return layout_of(grads)
    except Exception:  # it may be anything
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


def _try_gradients(trial: Trial, run: _Run, rtol: float) -> None:
    drawn = run.drawn
    with trial.law("gradients") as fault:
        problem = problem_of_stage(run.stage, drawn.params, drawn.A_prev, drawn.dA, run.context)
        subject = f"{problem.subject} in {run.when}"
        report = check_problem(attrs.evolve(problem, subject=subject), rtol=rtol)
        trial.tables.append(report)
        if not report.right:
            fault(str(report))


def _try_purity(trial: Trial, run: _Run, shares_input: bool) -> None:
    stage, drawn = run.stage, run.drawn
    with trial.law("purity") as fault:
        # A cache is there to keep the input; an output is not, unless that is declared.
        shares = ["result"] if shares_input else ["result[1]"]
        result, faults = purity_faults(
            stage.forward,
            drawn.params,
            drawn.A_prev,
            run.context,
            shares=shares,
            names=["params", "A_prev", "context"],
        )
        for text in faults:
            fault(f"forward in {run.when} {_spelt(text, 'A', 'cache')}")
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
            fault(f"backward in {run.when} {_spelt(text, 'dA_prev', 'grads')}")


def _spelt(text: str, first: str, second: str) -> str:
    text = text.replace("result[0]", first).replace("result[1]", second)
    return text.replace("copy it", "copy it, or declare it with shares_input=True")


def _try_linear(trial: Trial, run: _Run) -> None:
    stage, drawn = run.stage, run.drawn
    with trial.law("linear") as fault:
        _, cache = run.forward(drawn.A_prev)
        once = _gradients(stage.backward(drawn.params, cache, drawn.dA))
        for factor in (-2.0, 1024.0):  # powers of two, which round nothing
            dA = freeze(factor * drawn.dA)
            scaled = _gradients(stage.backward(drawn.params, cache, dA))
            for name, array in once.items():
                told = _unlike(factor * array, scaled[name])
                if told:
                    fault(
                        f"{name} of backward is not {factor:g} times as large "
                        f"for {factor:g} dA: {told}"
                    )


def _gradients(pair: tuple[FloatArray, Tree]) -> dict[str, FloatArray]:
    dA_prev, grads = pair
    found = {"dA_prev": dA_prev}
    found |= {
        slot.name: leaf for slot, leaf in zip(layout_of(grads).slots, leaves(grads), strict=True)
    }
    return found


def _unlike(expected: FloatArray, found: FloatArray, scale: float = 0.0) -> str | None:
    return unlike(expected, found, tolerance=_TOLERANCE, scale=scale)


def _try_examples(trial: Trial, run: _Run) -> None:
    """A batch of m examples is m batches of one, and its gradients are the sum of theirs."""
    drawn = run.drawn
    with trial.law("examples") as fault:
        A, dA_prev, grads = run.both(drawn.A_prev, drawn.dA)
        m = drawn.A_prev.shape[-1]
        ones = [
            run.both(freeze(drawn.A_prev[..., [i]]), freeze(drawn.dA[..., [i]])) for i in range(m)
        ]
        scale = float(np.abs(dA_prev).max(initial=0.0))
        pairs = {
            "A": (np.concatenate([one[0] for one in ones], axis=-1), A),
            "dA_prev": (np.concatenate([one[1] for one in ones], axis=-1), dA_prev),
        }
        sums = [sum(arrays) for arrays in zip(*(leaves(one[2]) for one in ones), strict=True)]
        names = [slot.name for slot in layout_of(grads).slots]
        for name, total, gradient in zip(names, sums, leaves(grads), strict=True):
            pairs[f"the gradient of {name}"] = (np.asarray(total), gradient)
        for name, (expected, found) in pairs.items():
            told = _unlike(expected, found, scale)
            if told:
                fault(
                    f"{name} of a batch is not that of its examples one by one in {run.when}: "
                    f"{told}; declare it with mixes_examples=True if it is meant"
                )


def _try_elementwise(trial: Trial, run: _Run) -> None:
    """Another number in one place changes what is made of it there, and nowhere else."""
    if not run.stage.elementwise:
        return
    with trial.law("elementwise") as fault:
        A_prev, dA = run.drawn.A_prev.copy(), run.drawn.dA.copy()
        A_prev.flat[0] += 0.5
        dA.flat[0] += 0.5
        before = run.both(run.drawn.A_prev, run.drawn.dA)
        after = run.both(freeze(A_prev), freeze(dA))
        for name, old, new in zip(("A", "dA_prev"), before, after, strict=False):
            if not np.array_equal(old.ravel()[1:], new.ravel()[1:]):
                fault(
                    f"it says that it is elementwise, but another number in one place changes "
                    f"{name} in other places, in {run.when}"
                )


def _try_backward_into(trial: Trial, run: _Run) -> None:
    stage, drawn = run.stage, run.drawn
    with trial.law("backward_into") as fault:
        _, cache = run.forward(drawn.A_prev)
        expected = snapshot(stage.backward(drawn.params, cache, drawn.dA), "result")
        layout = layout_of(drawn.params)
        vector = np.full(layout.size, np.nan)
        filled = gradients_layout(stage, layout)
        backward_into = into(stage)
        dA_prev = backward_into(drawn.params, cache, drawn.dA, layout.views(vector), True)
        mismatch = difference(expected, snapshot((dA_prev, filled.tree(vector)), "result"))
        if mismatch:
            fault(f"from backward_into, {_spelt(mismatch, 'dA_prev', 'grads')} from backward")
        vector[:] = np.nan
        backward_into(drawn.params, cache, drawn.dA, layout.views(vector), False)
        mismatch = difference(
            snapshot(stage.backward(drawn.params, cache, drawn.dA)[1], "grads"),
            snapshot(filled.tree(vector), "grads"),
        )
        if mismatch:
            fault(f"from backward_into where dA_prev is not needed, {mismatch} from backward")


def _try_precision(trial: Trial, run: _Run) -> None:
    stage, drawn = run.stage, run.drawn
    with trial.law("precision") as fault:
        params, A_prev, dA = (_in_float32(v) for v in (drawn.params, drawn.A_prev, drawn.dA))
        statistics = _in_float32(run.context.statistics)
        context = attrs.evolve(run.context, statistics=statistics)
        A, cache = stage.forward(params, A_prev, context)
        dA_prev, grads = stage.backward(params, cache, dA)
        named = {"A": A, "cache": cache, "dA_prev": dA_prev, "grads": grads}
        for name, value in named.items():
            for where, leaf in leaves_of(value, name):
                if isinstance(leaf, np.ndarray) and leaf.dtype == np.float64:
                    fault(
                        f"{where} is float64 in {run.when}, although all it was made of is float32"
                    )


def _in_float32(value: _Value) -> _Value:
    return rebuilt(value, lambda a: freeze(a.astype(np.float32)) if a.dtype == np.float64 else a)


def _wide(drawn: DrawnStage) -> FloatArray:
    """The input repeated, for a chance of showing to what is drawn now and then."""
    times = -(-_WIDE // drawn.A_prev.shape[-1])
    return freeze(np.concatenate([drawn.A_prev] * times, axis=-1))


def _try_training_flag(
    trial: Trial, stage: Stage, drawn: DrawnStage, contexts: Mapping[str, Context]
) -> None:
    with trial.law("training flag") as fault:
        X = _wide(drawn)
        outputs = [stage.forward(drawn.params, X, context)[0] for context in contexts.values()]
        declared = stage.random or stage.statistics is not None
        told = difference(*(snapshot(A, "A") for A in outputs))
        if told and not declared:
            fault(
                "training changes the output, though neither randomness nor statistics are "
                f"declared: {told}"
            )
        if declared and not told:
            fault("randomness or statistics are declared, but training gives the same output")


def _try_key(trial: Trial, stage: Stage, drawn: DrawnStage, key: Key) -> None:
    with trial.law("key") as fault:
        X = _wide(drawn)
        contexts = [attrs.evolve(drawn.training, key=key.at("draw", i)) for i in range(2)]
        first, second = (snapshot(stage.forward(drawn.params, X, c)[0], "A") for c in contexts)
        told = difference(first, second)
        if told and not stage.random:
            fault(f"another key gives another output, though random=True is not declared: {told}")
        if stage.random and not told:
            fault("random=True is declared, but another key gives the same output")
        if stage.random and stage.parts:
            keys = _keys_of_parts(stage, drawn)
            for path, used in keys.items():
                twins = [other for other, k in keys.items() if k == used and other != path]
                if twins:
                    fault(f"the parts at {path} and {twins[0]} draw from the same key")


def _try_mean_of_draws(trial: Trial, stage: Stage, drawn: DrawnStage, evaluation: Context) -> None:
    """Draws that are taken or left alone by chance, such as dropout's, must make up for that."""
    with trial.law("mean of draws") as fault:
        X = _wide(drawn)
        meant, _ = stage.forward(drawn.params, X, evaluation)
        contexts = [drawn.training.below(i) for i in range(_DRAWS)]  # each with its own key
        off = np.stack([stage.forward(drawn.params, X, c)[0] - meant for c in contexts])
        # Sums of many independent terms: six deviations come once in a thousand million times.
        for terms in (off, off * meant):
            total, deviation = float(terms.sum()), float(np.sqrt((terms * terms).sum()))
            if not abs(total) <= 6 * deviation:
                fault(
                    f"over {_DRAWS} keys the output is off by {total / terms.size:.3g} on "
                    f"average, {abs(total) / deviation:.0f} times what chance makes of it; "
                    "declare it with keeps_mean=False if it is meant"
                )
                return


def _keys_of_parts(stage: Stage, drawn: DrawnStage) -> dict[str, Key | None]:
    keys: dict[str, Key | None] = {}

    def watched(path: str, part: Stage) -> Stage:
        def forward(
            params: Tree, A_prev: FloatArray, context: Context
        ) -> tuple[FloatArray, object]:
            if part.random:
                keys[path] = context.key
            return part.forward(params, A_prev, context)

        return attrs.evolve(part, forward=forward)

    map_stages(watched, stage).forward(drawn.params, drawn.A_prev, drawn.training)
    return keys


def _try_statistics(trial: Trial, stage: Stage, drawn: DrawnStage) -> None:
    kept = stage.statistics
    assert kept is not None
    with trial.law("statistics") as fault:
        before = kept.init(drawn.params)
        _, cache = stage.forward(drawn.params, drawn.A_prev, drawn.training)
        after, faults = purity_faults(
            kept.absorb, before, cache, shares=[], names=["statistics", "cache"]
        )
        for text in faults:
            fault(f"absorb {text.replace('result', 'statistics')}")
        if faults:
            return
        shapes = [_shapes(layout_of(s)) for s in (before, after)]
        if shapes[0] != shapes[1]:
            fault(f"shapes are {shapes[1]} after a step, {shapes[0]} before")
        if difference(snapshot(before), snapshot(after)) is None:
            fault("a step leaves them as they were")
        outputs = [
            snapshot(stage.forward(drawn.params, drawn.A_prev, Context(statistics=s))[0], "A")
            for s in (before, after)
        ]
        if difference(*outputs) is None:
            fault("the output outside of training does not depend on them")


def _try_description(trial: Trial, stage: Stage, drawn: DrawnStage) -> None:
    with trial.law("description") as fault:
        again = build(describe(stage), family="stage")
        taken_apart = map_stages(lambda path, part: part, stage)
        for how, other in (("built again", again), ("taken apart and put together", taken_apart)):
            told = difference(*(_everything(s, drawn) for s in (stage, other)))
            if told:
                fault(f"{how}, {told} before")
            if describe(other) != describe(stage):
                fault(f"{how}, it describes itself as {describe(other)}")


def _everything(stage: Stage, drawn: DrawnStage) -> dict[str, object]:
    A, cache = stage.forward(drawn.params, drawn.A_prev, drawn.training)
    dA_prev, grads = stage.backward(drawn.params, cache, drawn.dA)
    return snapshot({"A": A, "dA_prev": dA_prev, "grads": grads})
