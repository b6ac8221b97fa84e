"""Mutate the mathematics of pydnn, edit by edit, and see whether the suite finds each edit.

    python tests/mutation/run.py --seconds 300 --jobs 2
    python tests/mutation/run.py pydnn/losses.py --report
    python tests/mutation/run.py pydnn/compiled --python --kept kernels.json

Each mutant is compiled in a process of its own, forked from one that has imported all but pydnn,
and the tests of its module run there until one fails. What was found is kept in a file, so that
a run can be stopped and gone on with. Texts are not mutated, since they are names and messages,
nor is `strict`, which says aloud that lengths are the same in every case.

Mutants of kernels run as Python first, which takes one or two seconds each, with stand-ins from
`as_python.py` for what is written for LLVM. Those that survive are compiled, which takes up to a
minute each, unless `--python` leaves them for another run with the same file of results.
"""

import argparse
import ast
import collections
import copy
import functools
import gc
import importlib.abc
import importlib.util
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

# Imported here, once, and not in each of a thousand children.
import as_python
import h5py  # noqa: F401
import hypothesis.extra.numpy
import pytest
import toolz  # noqa: F401
from survivors import EQUIVALENT

TOP = Path(__file__).parents[2]
COMPILED = TOP / "pydnn" / "compiled"
TARGETS = [
    *(
        path
        for folder in ("stages", "optimizers")
        for path in sorted((TOP / "pydnn" / folder).glob("*.py"))
        if path.name != "__init__.py"
    ),
    *(TOP / "pydnn" / name for name in ("losses.py", "sequences.py")),
    *(
        TOP / "pydnn/numerics" / name
        for name in (
            "fast.py",
            "small_products.py",
            "stacked_products.py",
            "groups.py",
            "threads.py",
            "memory.py",
            "geometry.py",
            "fast_convolution.py",
            "image_products.py",
        )
    ),
    *(TOP / "pydnn/numerics/portable" / name for name in ("scalars.py", "sums.py")),
    *(path for path in sorted(COMPILED.rglob("*.py")) if path.name != "__init__.py"),
]
EVERYWHERE = ["tests/test_defaults.py", "tests/stages/test_base.py"]
LAWS = "tests/test_laws.py::"
STAGES = [
    "tests/stages",
    LAWS + "test_stages",
    LAWS + "test_stages_of_sequences_of_unequal_length",
    LAWS + "test_stages_that_carry_their_state_from_batch_to_batch",
    LAWS + "test_the_shape_that_init_promises_is_that_of_forward",
    LAWS + "test_a_cache_keeps_no_array_that_its_caller_can_write_to",
    LAWS + "test_results_of_a_stage_are_not_views_of_writeable_arrays",
]
OPTIMIZERS = LAWS + "test_results_of_an_optimizer_are_not_views_of_writeable_arrays"
ROTATION = "tests/jobs/test_rotation.py::"
PORTABLE = "tests/numerics/portable/test_"
TESTS = {
    "stages": [*STAGES, LAWS + "test_training_steps", "tests/training/test_step.py"],
    "activations": ["tests/stages/test_activations.py", LAWS + "test_stages"],
    "dropout": ["tests/stages/test_dropout.py", *STAGES[1:]],
    "batch_norm": ["tests/stages/test_norms.py", *STAGES[1:], "tests/training/test_step.py"],
    "layer_norm": ["tests/stages/test_norms.py", *STAGES[1:]],
    **{
        name: ["tests/stages/test_recurrent.py", *STAGES[1:]]
        for name in ("recurrent", "rnn", "gru", "lstm", "bidirectional")
    },
    **{
        name: [f"tests/stages/test_{name}.py", *STAGES[1:]]
        for name in ("embedding", "positions", "attention")
    },
    "groups": ["tests/numerics/test_groups.py"],
    **{
        name: ["tests/stages/test_convolution.py", "tests/numerics/test_fast_convolution.py"]
        for name in ("convolution", "fast_convolution", "image_products", "geometry")
    },
    "pooling": ["tests/stages/test_pooling.py", *STAGES[1:]],
    "shapes": ["tests/stages/test_shapes.py", *STAGES[1:]],
    "windows": [
        "tests/stages/test_windows.py", "tests/stages/test_pooling.py",
        "tests/stages/test_transposed_convolution.py",
    ],
    "transposed_convolution": ["tests/stages/test_transposed_convolution.py", *STAGES[1:]],
    "sequences": [
        "tests/test_sequences.py", "tests/stages/test_padding.py", "tests/test_losses.py",
    ],
    "stacked_products": ["tests/numerics/test_stacked_products.py", "tests/stages"],
    "losses": ["tests/test_losses.py", "tests/test_laws.py"],
    "adaptive": [
        LAWS + "test_optimizers_agree_with_the_loops_of_their_papers",
        LAWS + "test_parts_of_optimizers", OPTIMIZERS, "tests/optimizers/test_optimizers.py",
        "tests/jobs/test_rotation.py",
    ],
    "momentum": [
        LAWS + "test_optimizers_agree_with_the_loops_of_their_papers",
        LAWS + "test_parts_of_optimizers", OPTIMIZERS, "tests/optimizers/test_optimizers.py",
        "tests/jobs/test_rotation.py",
    ],
    "schedules": ["tests/optimizers/test_schedules.py", LAWS + "test_schedules"],
    "fused": [
        "tests/optimizers/test_transformations.py",
        LAWS + "test_optimizers_agree_with_the_loops_of_their_papers",
    ],
    "optimizers": [
        "tests/optimizers/test_transformations.py", LAWS + "test_transformations", OPTIMIZERS,
        ROTATION + "test_rotated_gradients_give_rotated_updates",
        ROTATION + "test_averages_are_lifted_as_parameters_are",
        ROTATION + "test_an_elementwise_optimizer_is_refused",
        LAWS + "test_training_steps", "tests/training/test_step.py",
    ],
    "fast": [
        "tests/numerics/test_fast.py", "tests/stages", *STAGES[1:], "tests/training/test_step.py",
    ],
    "small_products": ["tests/numerics/test_small_products.py", "tests/numerics/test_fast.py"],
    "threads": ["tests/numerics/test_threads.py", "tests/optimizers/test_transformations.py"],
    "memory": ["tests/numerics/test_memory.py", "tests/numerics/test_fast.py"],
    "scalars": [PORTABLE + "scalars.py"],
    "sums": [PORTABLE + "sums.py", PORTABLE + "qr.py"],
}  # fmt: skip
# Tests of files of `pydnn.compiled` that are not all tests of the file with the same name. Those of
# large arrays are left out, since they take Python minutes.
KERNELS = "tests/compiled/portable/test_"
FORMS = KERNELS + "forms.py"
NEAREST = [
    KERNELS + "nearest.py::test_two_numbers_are_narrowed_as_their_exact_sum",
    KERNELS + "nearest.py::test_sums_of_twice_the_precision_are_the_nearest",
    KERNELS + "nearest.py::test_a_term_counts_if_neither_factor_is_zero",
    KERNELS + "nearest.py::test_what_is_left_out_makes_a_sum_uncertain",
    KERNELS + "nearest.py::test_sums_nearly_halfway_between_two_numbers_are_settled",
    KERNELS + "nearest.py::test_zeros_times_infinities_are_left_to_numpy",
    KERNELS + "nearest.py::test_results_too_small_for_float32_are_positive_zeros",
    KERNELS + "nearest.py::test_packed_columns_that_are_kept_are_not_overwritten",
    KERNELS + "nearest.py::test_threads_share_large_products_as_blas_does",
    KERNELS + "nearest.py::test_every_bit_is_that_of_numpys_form",
    KERNELS + "nearest.py::test_entries_that_need_an_exact_sum_are_found_in_tiles",
    KERNELS + "nearest.py::test_every_entry_is_the_nearest_float32",
]
OF_COMPILED = {
    "keeping": ["tests/compiled/test_kernels.py"],
    "loops": ["tests/compiled/test_passes.py", "tests/compiled/test_layers.py"],
    "tracing": ["tests/compiled/test_tracing.py", "tests/compiled/test_passes.py"],
    "losses": ["tests/compiled/test_losses.py"],
    "memory": ["tests/compiled/test_pooling.py"],
    "elementary": [
        KERNELS + "elementary.py::test_functions_of_single_numbers_have_the_same_bits",
        KERNELS + "elementary.py::test_arrays_are_filled_with_the_numbers_of_the_table",
        FORMS,
    ],
    "sums": [KERNELS + "sums.py", FORMS],
    "products": [KERNELS + "products.py", FORMS],
    "forms": [FORMS, KERNELS + "elementary.py"],
    "nearest": [*NEAREST, FORMS],
    "tiles": [KERNELS + "tiles.py", *NEAREST],
    "slices": [
        KERNELS + "slices.py::test_products_of_more_than_a_tile_have_the_same_bits",
        KERNELS + "slices.py::test_terms_of_size_one_are_not_left_out",
        KERNELS + "slices.py::test_products_have_the_same_bits",
        FORMS,
    ],
}
# How kernels are compiled and kept is seen only if they are, and Python cannot call addresses. The
# others run as Python, too.
NEVER_PYTHON = {"aside", "blas", "kernels", "keeping", "ufuncs"}
SECONDS = 60  # of a processor's time, after which a mutant counts as found: it never ends
AS_PYTHON = "survived as Python"  # and has not been compiled
IDLE = 10  # times as long is what it may take by the clock, on a busy machine

SWAPPED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Div, ast.MatMult: ast.Mult, ast.LShift: ast.Add,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
NAMES = {"maximum": "minimum", "minimum": "maximum", "any": "all", "all": "any", "ones": "zeros",
         "zeros": "ones", "zeros_like": "ones_like", "exp": "expm1", "log1p": "log", "max": "min",
         "min": "max", "argmax": "argmin", "argmin": "argmax", "floor": "ceil"}  # fmt: skip


def edits(node):
    """Every wrong version of one node, as a change of its copy."""
    operators = getattr(node, "ops", None) or [getattr(node, "op", None)]
    for i, operator in enumerate(operators):
        if type(operator) in SWAPPED:
            new = SWAPPED[type(operator)]()
            if hasattr(node, "ops"):
                yield lambda n, i=i, new=new: n.ops.__setitem__(i, new)
            else:
                yield lambda n, new=new: setattr(n, "op", new)
        elif type(operator) in (ast.USub, ast.Not):
            yield lambda n: setattr(n, "op", ast.UAdd() if isinstance(n.op, ast.USub) else n.op)
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield lambda n: setattr(n, "value", not n.value)
        elif isinstance(node.value, int | float):
            yield lambda n: setattr(n, "value", n.value + 1)
            if isinstance(node.value, float) and node.value:
                yield lambda n: setattr(n, "value", n.value * 1.01)
    if isinstance(node, ast.If | ast.IfExp):
        yield lambda n: setattr(n, "test", ast.Constant(True))
        yield lambda n: setattr(n, "test", ast.Constant(False))
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield lambda n: setattr(n, "attr", NAMES[n.attr])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "freeze":
        yield lambda n: n.__dict__.update(func=ast.Name("_as_it_is", ast.Load()))


def places(tree):
    """The nodes of a tree that make what it computes: no annotations, no decorators' names."""
    skipped = set()
    for node in ast.walk(tree):
        notes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        notes += [node.targets[0]] if isinstance(node, ast.Assign) and _is_alias(node) else []
        for note in filter(None, notes):
            skipped |= set(map(id, ast.walk(note)))
        notes = getattr(node, "decorator_list", [])
        for note in notes:
            skipped |= set(map(id, ast.walk(note)))
        said = isinstance(node, ast.keyword) and node.arg == "strict"
        if said or isinstance(node, ast.Raise | ast.JoinedStr) or _is_alias(node):
            skipped |= set(map(id, ast.walk(node)))
    return [node for node in ast.walk(tree) if id(node) not in skipped]


def _is_alias(node):
    """An assignment of a type, as `Rate = float | Schedule`."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    name = target.id if isinstance(target, ast.Name) else ""
    return name == "Rate" or name == "_Entries"


def mutants(path):
    """`(name, make)` for every mutant of a file; the name has the line, as it was and is."""
    tree = ast.parse(path.read_text())
    lines = path.read_text().splitlines()
    owner = {}  # the smallest statement around each node
    for statement in (n for n in ast.walk(tree) if isinstance(n, ast.stmt)):
        for node in ast.walk(statement):
            owner[id(node)] = statement  # statements come from the outermost inwards
    for place, node in enumerate(places(tree)):
        for which, _ in enumerate(edits(node)):
            statement = owner.get(id(node), tree)
            inside = next(i for i, n in enumerate(ast.walk(statement)) if n is node)
            twin = copy.deepcopy(statement)
            before = ast.unparse(twin)
            edited = next(n for i, n in enumerate(ast.walk(twin)) if i == inside)
            list(edits(edited))[which](edited)
            after = ast.unparse(twin)
            if before != after:
                line = f"{node.lineno}: {lines[node.lineno - 1].strip()}"
                name = f"{path.relative_to(TOP)}:{line} | {changed(before, after)}"
                yield " ".join(name.split()), functools.partial(mutated, tree, place, which)


def mutated(tree, place, which):
    """A copy of a file's tree, with one of the edits of one of its nodes."""
    again = copy.deepcopy(tree)
    node = places(again)[place]
    list(edits(node))[which](node)
    return again


def changed(before, after):
    """The part of a text that is another one, with what is around it."""
    first = next(
        i for i, (a, b) in enumerate(zip(before + "\0", after + "\1", strict=False)) if a != b
    )
    ends = zip(before[::-1] + "\0", after[::-1] + "\1", strict=False)
    last = next(i for i, (a, b) in enumerate(ends) if a != b)
    last = min(last, len(before) - first, len(after) - first)
    start, stop = max(0, first - 12), max(0, last - 12)
    return f"{before[start : len(before) - stop]} -> {after[start : len(after) - stop]}"


class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module another code than its file has."""

    def __init__(self, path, tree):
        parts = path.relative_to(TOP).with_suffix("").parts
        self.name, self.path = ".".join(parts), path
        self.code = compile(ast.fix_missing_locations(tree), str(path), "exec")

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module._as_it_is = lambda array: array
        exec(self.code, module.__dict__)


# Examples are the same ones each time, and one that fails is not made smaller.
hypothesis.settings.register_profile(
    "mutants", deadline=None, max_examples=25, derandomize=True, database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip


def start(path, make, compiles, seconds=SECONDS):
    """A child that runs the tests on a mutant, and ends with pytest's status."""
    child = os.fork()
    if child:
        return child
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    status = 1
    try:
        sys.meta_path.insert(0, Loader(path, make()))
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:pydnn", "--assert=plain"]
        options += ["--tb=no", "--hypothesis-profile=mutants"]
        if COMPILED in path.parents:
            status = run_compiled(path, options, compiles)
        else:
            first, *others = TESTS.get(path.stem) or TESTS[path.parent.name]
            # Collecting tests takes longer than most of them: the others only where needed.
            status = pytest.main([*options, *EVERYWHERE, first])
            if others and not status:
                status = pytest.main([*options, *others])
    finally:
        os._exit(int(status))


def run_compiled(path, options, compiles):
    """Run the tests of a file of `pydnn.compiled`, as Python and then compiled."""
    # Slow ones, too, since they are slow only because they compile.
    mirror = path.relative_to(COMPILED).with_name(f"test_{path.name}")
    tests = OF_COMPILED.get(path.stem, [f"tests/compiled/{mirror}"])
    options = [*options, "-m", "slow or not slow", *tests]
    if not compiles:
        return run_as_python(options)
    if path.stem not in NEVER_PYTHON:
        child = os.fork()
        if not child:
            status = 1
            try:
                status = run_as_python(options)
            finally:
                os._exit(int(status))
        _, status = os.waitpid(child, 0)
        if status:
            return 1
    os.environ["PYDNN_CACHE"] = str(kernels_of(os.getpid()))  # no kernel of another mutant
    return pytest.main(options)


def run_as_python(options):
    """Run tests of kernels that are not compiled, which takes milliseconds with tiny arrays."""
    import numba

    numba.config.DISABLE_JIT = True
    numba.extending.intrinsic = as_python.intrinsic
    # What Python computes is not kept, which is said in a warning.
    return pytest.main(["-W", "ignore::RuntimeWarning", *options])


def kernels_of(pid):
    """The folder of the kernels that one child compiles."""
    return Path(tempfile.gettempdir()) / f"pydnn-mutant-{os.getuid()}-{pid}"


def import_all_but_kernels():
    """Import what no mutant of `pydnn.compiled` changes."""
    import hypothesis.strategies  # noqa: F401
    import numba.core.caching
    import numba.extending
    import numba.np.arrayobj  # noqa: F401

    import pydnn.cli  # noqa: F401

    gc.freeze()  # or each child looks through all of it


def sound_seconds(file, compiles):
    """A processor's seconds that the tests of a file take; none may fail without a mutant."""
    child = start(file, lambda: ast.parse(file.read_text()), compiles)
    _, status, used = os.wait4(child, 0)
    shutil.rmtree(kernels_of(child), ignore_errors=True)
    if status:
        sys.exit(f"the tests of {file} fail without any mutant: mend them first")
    return used.ru_utime + used.ru_stime


def run(work, known, path, seconds, jobs, compiles):
    running, sound, begun, ended = {}, {}, time.monotonic(), False
    survived = "survived" if compiles else AS_PYTHON
    work = iter(work)
    while True:
        while len(running) < jobs and not ended:
            if time.monotonic() - begun > seconds:
                ended = True
                break
            name, file, make = next(work, (None, None, None))
            if name is None:
                ended = True
                break
            if file not in sound:
                sound[file] = sound_seconds(file, compiles)
            most = SECONDS if compiles else min(SECONDS, 2 + math.ceil(2 * sound[file]))
            running[start(file, make, compiles, most)] = (name, time.monotonic())
        if not running:
            return
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            name, _ = running.pop(child)
            known[name] = survived if status == 0 else "killed"
            shutil.rmtree(kernels_of(child), ignore_errors=True)
        else:
            time.sleep(0.005)
        for pid, (_, since) in running.items():
            if time.monotonic() - since > IDLE * SECONDS:
                os.kill(pid, signal.SIGKILL)
        if child and len(known) % 20 == 0:
            path.write_text(json.dumps(known, indent=0))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, help="or folders; by default all of them")
    parser.add_argument("--seconds", type=float, default=3600, help="no mutant begins after these")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path("mutation.json"))
    parser.add_argument("--report", action="store_true", help="run nothing, tell what is known")
    parser.add_argument("--again", action="store_true", help="run again those that survived")
    parser.add_argument("--shuffled", action="store_true", help="run a random sample first")
    parser.add_argument("--python", action="store_true", help="run kernels only as Python")
    options = parser.parse_args()
    os.chdir(TOP)
    known = json.loads(options.kept.read_text()) if options.kept.exists() else {}
    some = [path.resolve() for path in options.files]
    files = [path for path in TARGETS if {path, *path.parents} & set(some)] if some else TARGETS
    everything = [(name, path, make) for path in files for name, make in mutants(path)]
    names = dict.fromkeys(name for name, *_ in everything)  # in their order
    known = {name: found for name, found in known.items() if name in names or options.files}
    if not options.report:
        open_to = {None, *([] if options.python else [AS_PYTHON])}
        open_to |= {"survived", AS_PYTHON} if options.again else set()
        todo = [(name, path, make) for name, path, make in everything if known.get(name) in open_to]
        todo.sort(key=lambda work: known.get(work[0]) is None)  # those that survived come first
        if options.shuffled:
            random.Random(0).shuffle(todo)
        if all(COMPILED in path.parents for path in files):
            import_all_but_kernels()
        run(todo, known, options.kept, options.seconds, options.jobs, not options.python)
        options.kept.write_text(json.dumps(known, indent=0))
    return tell({name: found for name, found in known.items() if name in names}, names)


def tell(known, names):
    """Print what is known; 1 if anything is to be done about it."""
    alive = [name for name, found in known.items() if found != "killed"]
    counts, ran, left = (collections.Counter(map(file_of, some)) for some in (names, known, alive))
    for file, count in counts.items():
        print(f"{file}: {count} mutants, {ran[file]} run, {ran[file] - left[file]} killed")
    unknown = [name for name in alive if reason_of(name) is None]
    killed = len(known) - len(alive)
    print(f"{len(names)} mutants, {len(known)} run, {killed} killed, {len(alive)} survived")
    print(f"{len(alive) - len(unknown)} of these change nothing, for reasons that are listed")
    if known:
        print(f"killed: {killed / len(known):.1%}, of those that change something: "
              f"{killed / max(1, killed + len(unknown)):.1%}")  # fmt: skip
    for name in unknown:
        print(f"survived, for no reason that is listed: {name}")
    # One may yet survive that was not run.
    open_to = [name for name in names if known.get(name) != "killed"]
    stale = [
        entry
        for entry in EQUIVALENT
        if entry[0] in counts and not any(fits(entry, name) for name in open_to)
    ]
    for file, part in stale:
        print(f"listed, but nothing like it survives: {file}: {part}")
    return int(bool(unknown or stale))


def file_of(name):
    return name.partition(":")[0]


def fits(entry, name):
    file, part = entry
    return file_of(name) == file and part in name.partition(": ")[2]


def reason_of(name):
    """Why a mutant changes nothing that can be seen, if that is known."""
    return next((why for entry, why in EQUIVALENT.items() if fits(entry, name)), None)


if __name__ == "__main__":
    sys.exit(main())
