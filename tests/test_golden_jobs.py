"""Portable arithmetic gives these fingerprints on every machine, with its own functions only."""

import ast
import builtins
import contextlib
import hashlib
import json
import math
import sys
from pathlib import Path

import attrs
import golden_jobs
import numpy as np
import pytest
from golden_jobs import DTYPES, JOBS, result

import pydnn
from pydnn import Batch, Key, fast
from pydnn.descriptions.builders import _BUILDERS
from pydnn.jobs.job import prepare, run
from pydnn.numerics.battery import arithmetic_fingerprint
from pydnn.numerics.blas_threads import using_blas_threads

GOLDEN = {
    "tutorial, float64": "51cbcad64152e68a 2ab5d32a970d1541",
    "tutorial, float32": "f8e493f00398f3da f1fb9a3b207797c9",
    "adam, float64": "4357006dc32f9166 467f9967686c4dbd",
    "adam, float32": "2d9ac4c465963df4 861072c68e32fe1b",
    "adamw, float64": "01d9e0cae454be64 dfe37dc9f516715a",
    "adamw, float32": "19e283c18ad165b6 e4c6627a512a3f8f",
    "amsgrad, float64": "2fcfcaceec047d62 2e0f325f88f6090f",
    "amsgrad, float32": "d6f3f1fbc7cbb118 92a4589a924d7291",
    "nadam, float64": "7af416ac1dc67f1a 4f4d3d1ad2575f79",
    "nadam, float32": "34bc893d9a872f81 d0a744ee864c516a",
    "momentum, float64": "fd50ade1b7612d34 65f25bf7698a4b38",
    "momentum, float32": "1cd5a63d1cb27f0d df091d382ff626ea",
    "nesterov, float64": "63992fb298d7435c 1b603139a5156718",
    "nesterov, float32": "9c4113fc9c0ce61d 4f5fe8c7f6436317",
    "rmsprop, float64": "faad02a0d6b05863 d1504bb1f0df9504",
    "rmsprop, float32": "d3e3eddc6c6b5008 9f6eede545ce471a",
    "adagrad, float64": "7aa2a4b030a9aa2c 262d999c216e473a",
    "adagrad, float32": "1a0f929ad957b05b d422600de76bb3ae",
    "lion, float64": "0e7675b080eb3837 83e9e2ced82b1393",
    "lion, float32": "fbe4f86420f514df 3e402491fc25dbbf",
    "clipped, float64": "1fa99ccc355b06c4 bdb4424139b3904e",
    "clipped, float32": "0ec06027235e289d 2db5d44e3f5391d2",
    "by hand, float64": "9041cd5b24286bad dc1bfe334a87e975",
    "by hand, float32": "2f6d7ac2a6430a3f 07fcbf059b747689",
    "rotated, float64": "0068b8cb2786439f 0153d15f10d04c66",
    "rotated, float32": "acde6e1f80d43355 ac83f0c87ecc9494",
    "pools, float64": "be4e037502e6ef14 1485626828c90809",
    "pools, float32": "516c415fea31ebc7 2baa3287fdc0a809",
    "transposed, float64": "e8fc47e5100f2428 48a1f059c23332e6",
    "transposed, float32": "834770f54b9b0314 f577f76d77882070",
    "letters, float64": "fe4115385b3d2b01 0c5e335a1b7ad5e0",
    "letters, float32": "827a6964afddda3e 3d5a2151b1b0a195",
    "attention, float64": "216e9f83d650fb19 a3db4b15c072762a",
    "attention, float32": "1fe922bafabcfa71 88e1e0114dc85fb9",
    "shapes, float64": "4cd9d5b28fe9cf74 3724e52ee481b7b1",
    "shapes, float32": "2f3a7b9d956dd499 a1314bc15516a487",
    "rnn, float64": "40b04f0f9ff294c8 c29e23b19fb1bd69",
    "rnn, float32": "cbf9582465f6b57b 1a591be393e92799",
    "gru, float64": "02f9a1e5977c73ac 021a943dbb1554af",
    "gru, float32": "dfd89f83dd58c5b1 4019e6fd1788bd3a",
    "lstm, float64": "6b297517ca5ea9c9 3c705a8fbc36f54b",
    "lstm, float32": "eaa8ead96629a220 1f1eb83403a4501b",
    "images, float64": "734287410d3a8d5e f1f9f4abb9dabaa5",
    "images, float32": "dac425ac5520269c d9dceaf9a273b405",
    "sequences, float64": "9637b63269eff024 3e920859a9544d24",
    "sequences, float32": "a2134207f1b6d03b 2770fc678ec707e2",
    "augmented, float64": "f167c461d86b011b 374352d49d94c3f6",
    "augmented, float32": "b6a819c099f437e1 ab646aa5372cff60",
    "sharded, float64": "9064931b025d7ec0 4074794acb25c015",
    "sharded, float32": "259700acf8bda2ed 32e4f6e5fa46a106",
}
# Of the job with shards in `fast`, by the SHA-256 of the arithmetic with one BLAS thread.
FAST = {
    "f11bd0fe5915f560": {
        "float64": "e0a464dab00e0a28 f86acdfc5ebae903",
        "float32": "a43e1e0d47f5729f 75f7debc1a019cec",
    },
    "f03f88ed50bd58b5": {  # with AVX-512
        "float64": "3a798c5c151d50cf a0e65118d2aa267f",
        "float32": "b103700a671786ef bf822a21f8f2f6fe",
    },
}
every_job = pytest.mark.parametrize("name", JOBS)
in_both = pytest.mark.parametrize("dtype", DTYPES)


@every_job
@in_both
def test_a_job_gives_the_bits_of_all_other_machines(name, dtype):
    assert result(name, dtype) == GOLDEN[f"{name}, {dtype}"]


@in_both
def test_shards_have_the_same_bits_however_python_adds_floats(dtype, monkeypatch):
    # Up to Python 3.11 `sum` rounds after each addition, and from 3.12 on it corrects for that.
    own = sum

    def corrected(numbers, start=0):
        numbers = list(numbers)
        floats = numbers and all(isinstance(number, float) for number in numbers)
        return math.fsum([start, *numbers]) if floats else own(numbers, start)

    monkeypatch.setattr(builtins, "sum", corrected)
    assert result("sharded", dtype) == GOLDEN[f"sharded, {dtype}"]


@in_both
def test_shards_give_in_fast_the_bits_of_every_machine_with_this_arithmetic(dtype):
    with using_blas_threads(1):
        arithmetic = json.dumps(arithmetic_fingerprint(fast), sort_keys=True)
    name = hashlib.sha256(arithmetic.encode()).hexdigest()[:16]
    if name not in FAST:
        pytest.skip(f"no fingerprints are known for the arithmetic {name}")
    task, recipe = JOBS["sharded"]
    recipe = attrs.evolve(recipe, numerics="fast")
    for threads in (1, 2):
        with using_blas_threads(threads):
            assert (
                golden_jobs.result_of(recipe, golden_jobs.examples(task), dtype)
                == (FAST[name][dtype])
            )


def test_the_jobs_use_every_builder():
    def names(value):
        if isinstance(value, list | tuple):
            return {name for part in value for name in names(part)}
        if not isinstance(value, dict) and not hasattr(value, "items"):
            return set()
        return {
            n for name, options in value.items() for n in {name, *names(list(options.values()))}
        }

    used = {"he_normal"}  # the default of dense
    for _, recipe in JOBS.values():
        for field in attrs.fields(type(recipe)):
            used |= names(getattr(recipe, field.name)) if field.name != "data" else set()
    # A text is read before there is arithmetic.
    builders = {name for family, name in _BUILDERS if ":" not in name and family != "text"}
    assert builders - {"serial"} <= used


@contextlib.contextmanager
def nothing_but_exact_operations():
    """Make products, sums and functions of floats by NumPy, the C library and `fast` raise."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, names in _INEXACT.items():
            for name in names:
                if hasattr(owner, name):
                    patch.setattr(
                        owner, name, _refusing(f"{owner.__name__}.{name}", getattr(owner, name))
                    )
        kept = {field.name: getattr(fast, field.name) for field in attrs.fields(type(fast))}
        for name, function in kept.items():
            if callable(function):
                object.__setattr__(fast, name, _refusing(f"fast.{name}", function))
        # A schedule's first value, before any step, is exact in any arithmetic.
        object.__setattr__(fast, "power", lambda x, y: 1.0 if y == 0 or x == 1 else 1 / 0)
        object.__setattr__(fast, "cosine", lambda x: 1.0 if x == 0 else 1 / 0)
        before = sys.getprofile()
        sys.setprofile(_watch)
        try:
            yield
        finally:
            sys.setprofile(before)
            for name, function in kept.items():
                object.__setattr__(fast, name, function)


_INEXACT = {
    np: [
        "dot", "matmul", "vdot", "inner", "outer", "tensordot", "einsum", "vecdot", "matvec",
        "vecmat", "kron", "convolve", "sum", "mean", "average", "std", "var", "median", "cumsum",
        "prod", "cumprod", "trapezoid", "nansum", "nanmean", "exp", "expm1", "exp2", "log", "log2",
        "log10", "log1p", "logaddexp", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan",
        "arctanh", "power", "float_power", "pow", "cbrt", "hypot", "interp", "cov", "corrcoef",
    ],
    np.linalg: ["norm", "qr", "svd", "solve", "inv", "eigh", "cholesky", "lstsq", "det", "pinv"],
    math: ["exp", "expm1", "log", "log2", "log10", "log1p", "pow", "cos", "sin", "tan", "tanh",
           "cosh", "sinh", "erf", "erfc", "hypot", "dist", "gamma", "lgamma"],
}  # fmt: skip
_METHODS = {"sum", "mean", "std", "var", "dot", "cumsum", "prod", "cumprod", "trace"}
_EXACT_REDUCTIONS = (np.maximum, np.minimum, np.logical_and, np.logical_or)


class Inexact(AssertionError):  # noqa: N818 - named after the finding
    pass


def _refusing(name, function):
    def refuse(*args, **options):
        if any(_of_floats(value) for value in (*args, *options.values())):
            raise Inexact(name)
        return function(*args, **options)

    return refuse


def _of_floats(value):
    if isinstance(value, list | tuple):
        return any(map(_of_floats, value))
    return isinstance(value, float | np.floating) or (
        isinstance(value, np.ndarray) and value.dtype.kind == "f"
    )


def _watch(frame, event, function):
    if event != "c_call":
        return
    name, owner = getattr(function, "__name__", ""), getattr(function, "__self__", None)
    if name in _METHODS and isinstance(owner, np.ndarray) and owner.dtype.kind == "f":
        raise Inexact(f"ndarray.{name} in {frame.f_code.co_filename}")
    if name in ("reduce", "accumulate", "reduceat", "at") and isinstance(owner, np.ufunc):
        # In NumPy's own code, which counts truth values so, too, what is summed has these names.
        summed = frame.f_locals.get("obj", frame.f_locals.get("a"))
        counting = summed is not None and not _of_floats(summed)
        checksum = Path(frame.f_code.co_filename).stem == "fingerprints"  # of whole numbers
        if owner not in _EXACT_REDUCTIONS and not counting and not checksum:
            raise Inexact(f"{owner.__name__}.{name} in {frame.f_code.co_filename}")


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.exp(x), lambda x: np.sum(x), lambda x: x.sum(), lambda x: np.add.reduce(x),
        lambda x: x.dot(x), lambda x: np.linalg.norm(x), lambda x: math.exp(x[0]),
        lambda x: fast.tanh(x),
        lambda x: fast.matmul(x[np.newaxis], x[:, np.newaxis]), lambda x: fast.power(2.0, 0.5),
    ],
)  # fmt: skip
def test_inexact_operations_are_detected(call):
    with nothing_but_exact_operations(), pytest.raises((Inexact, ZeroDivisionError)):
        call(np.ones(3))


@every_job
@in_both
@pytest.mark.slow
def test_a_job_uses_no_other_arithmetic(name, dtype):
    task, recipe = JOBS[name]
    batch = golden_jobs.examples(task)
    with nothing_but_exact_operations():
        found = golden_jobs.result_of(recipe, batch, dtype)
    assert found == GOLDEN[f"{name}, {dtype}"]


@pytest.mark.parametrize(
    "room",
    ["batches", "keys", "losses", "metrics", "numerics/polynomials", "numerics/portable",
     "optimizers", "penalties", "jobs/rotation", "jobs/standardization", "stages", "training"],
)  # fmt: skip
def test_no_operator_of_python_hides_a_product_or_a_power(room):
    top = Path(pydnn.__file__).parent / room
    for path in sorted(top.rglob("*.py")) if top.is_dir() else [top.with_suffix(".py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp):
                assert not isinstance(node.op, ast.MatMult), f"{path}:{node.lineno}"
                # Powers of two are exact, whatever computes them.
                assert not isinstance(node.op, ast.Pow) or _is_two(node.left), (
                    f"{path}:{node.lineno}"
                )


def _is_two(node):
    return isinstance(node, ast.Constant) and node.value in (2, 2.0)


def test_memory_order_and_alignment_of_the_data_change_no_bit():
    task, recipe = JOBS["adam"]
    batch = golden_jobs.examples(task)
    odd = np.empty(batch.X.nbytes + 1, np.uint8)[1:].view(float).reshape(batch.X.shape)
    odd[...] = batch.X
    for X in (np.asfortranarray(batch.X), odd, np.repeat(batch.X, 2, axis=1)[:, ::2]):
        assert (
            golden_jobs.result_of(recipe, Batch(X, batch.Y), "float64") == GOLDEN["adam, float64"]
        )


@pytest.mark.slow
def test_training_with_many_threads_gives_the_same_bits():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: result("adam", "float32"), range(8)))
    assert set(found) == {GOLDEN["adam, float32"]}


def test_portable_training_is_close_to_fast_training():
    task, recipe = JOBS["adam"]
    batch = golden_jobs.examples(task)
    costs = {
        name: [info.cost for _, info in run(prepare(attrs.evolve(recipe, numerics=name), batch))]
        for name in ("fast", "portable")
    }
    np.testing.assert_allclose(costs["portable"], costs["fast"], rtol=1e-9)


def test_the_same_key_gives_the_same_random_numbers_on_every_machine():
    key = Key(5).at("golden")
    found = golden_jobs.fingerprint(
        {
            "uniform": key.uniform(1000),
            "normal": key.normal(1000),
            "integers": key.integers(97, 1000),
            "permutation": key.permutation(1000),
        }
    )
    assert found[:16] == "91dd04c99c3eac68"
