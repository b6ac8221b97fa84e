import decimal
import json
import os
import subprocess
import sys
from decimal import Decimal

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydnn
from pydnn.checks import BadInput
from pydnn.numerics import fast, portable
from pydnn.numerics.battery import arithmetic_fingerprint, operations
from pydnn.numerics.portable.scalars import _DIGITS as DIGITS
from pydnn.optimizers.schedules import cosine_decay
from pydnn.runs import hazards as module
from pydnn.runs.environment import (
    VARIABLES,
    Environment,
    current_environment,
    environment_text,
    read_environment,
)
from pydnn.runs.environment_changes import (
    arithmetic_differences,
    environment_changes,
    variables_to_repeat,
    what_to_expect,
)
from pydnn.runs.hazards import hazards

OPERATIONS = operations()
SAMPLE = Environment(
    versions={"python": "3.11.7", "numpy": "2.4.6"},
    machine={"system": "Linux", "cores": "2"},
    blas={"name": "openblas", "version": "0.3.31", "kernel": "SkylakeX", "threads": "2"},
    cpu=("X86_V2", "X86_V3"),
    variables={},
    numerics="fast",
    arithmetic={name: f"{i:064x}" for i, name in enumerate(OPERATIONS, 1)},
)


def evolved(environment=SAMPLE, **changes):
    """The environment with some entries of its mappings changed; None removes one."""
    for field, entries in changes.items():
        merged = {**getattr(environment, field), **entries}
        kept = {name: text for name, text in merged.items() if text is not None}
        environment = attrs.evolve(environment, **{field: kept})
    return environment


@pytest.fixture
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_this_process_is_described(monkeypatch, no_variables):
    monkeypatch.setenv("MKL_DYNAMIC", "FALSE")
    monkeypatch.setenv("HOME", "/nowhere")
    here = current_environment()
    assert list(here.variables.items()) == [("MKL_DYNAMIC", "FALSE")]
    assert here.versions["numpy"] == np.__version__
    assert {"python", "pydnn", "h5py", "hdf5", "toolz", "attrs"} < set(here.versions)
    assert here.versions["pydnn"] == pydnn.__version__
    assert {"system", "architecture", "byte order", "cores"} <= set(here.machine)
    assert here.numerics == "fast"
    assert list(here.arithmetic) == OPERATIONS
    assert read_environment(environment_text(here), "here") == here


def test_the_kernel_is_left_out_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert "kernel" not in current_environment().blas


def test_threads_are_those_of_the_blas_of_numpy():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    if "threads" not in current_environment().blas:
        pytest.skip("threadpoolctl does not know this BLAS")
    with threadpoolctl.threadpool_limits(1):
        assert current_environment().blas["threads"] == "1"


def test_unprintable_variables_are_written_in_ascii(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "a\x1b[31m\udcff" + "x" * 5000)
    here = current_environment()
    assert here.variables["GLIBC_TUNABLES"].startswith(r"a\x1b[31m\udcffxxx")
    assert read_environment(environment_text(here), "here") == here


def test_fingerprints_are_of_every_operation_and_the_same_again():
    first = arithmetic_fingerprint(fast)
    assert list(first) == OPERATIONS
    assert len(set(first.values())) == len(OPERATIONS)
    assert arithmetic_fingerprint(fast) == first


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_ulp_in_one_operation_changes_its_fingerprint_alone(name):
    def nudged(*given, **options):
        result = getattr(fast, name)(*given, **options)
        if not isinstance(result, np.ndarray):
            return np.nextafter(result, np.inf)
        if len(result) > 1:  # in the last entry of a result
            result[-1, ...] = np.nextafter(result[-1, ...], result.dtype.type(np.inf))
        return result

    changed = arithmetic_fingerprint(attrs.evolve(fast, **{name: nudged}))
    plain = arithmetic_fingerprint(fast)
    assert [n for n in OPERATIONS if changed[n] != plain[n]] == [name]


def test_the_battery_asks_for_products_as_stages_do():
    asked = []

    def matmul(a, b, /, *, out=None):
        flags = (a.flags.c_contiguous, b.flags.c_contiguous, out is not None)
        asked.append((a.dtype.name, *flags))
        return fast.matmul(a, b, out=out)

    arithmetic_fingerprint(attrs.evolve(fast, matmul=matmul))
    for dtype in ("float64", "float32"):
        assert (dtype, True, True, False) in asked
        assert (dtype, False, True, True) in asked  # W.T dZ
        assert (dtype, True, False, False) in asked  # dZ A_prev.T


def in_a_child(**variables):
    """The fingerprint of a process with these environment variables, and no others that matter."""
    environ = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    code = "from pydnn.runs.environment import *; print(environment_text(current_environment()))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return read_environment(done.stdout, "the child")


@pytest.mark.slow
def test_other_processes_have_the_fingerprint_and_other_threads_or_kernels_another():
    here = in_a_child()
    if "openblas" not in here.blas.get("name", ""):
        pytest.skip("what changes the bits is known of OpenBLAS alone")
    if here.machine["architecture"].lower() not in ("x86_64", "amd64"):
        pytest.skip("the kernels named here are of x86-64")
    repeated = {k: v for k, v in variables_to_repeat(here).items() if v is not None}
    again = in_a_child(**repeated)
    assert what_to_expect(here, again) is None
    other = in_a_child(OPENBLAS_CORETYPE="Sandybridge", OPENBLAS_NUM_THREADS="1")
    assert {"matmul", "norm"} <= set(arithmetic_differences(here, other))
    assert "exp" not in arithmetic_differences(here, other)
    assert "recorded with OPENBLAS_CORETYPE not set, here Sandybridge" in what_to_expect(
        here, other
    )


def test_another_number_of_threads_has_another_fingerprint():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    blas = current_environment().blas
    if "openblas" not in blas.get("name", "") or (os.cpu_count() or 1) < 2:
        pytest.skip("needs OpenBLAS, and two cores")
    if blas["kernel"] not in ("SkylakeX", "Cooperlake", "Haswell", "Zen"):
        pytest.skip(f"what the kernel {blas['kernel']} does was not measured")

    def with_threads(threads):
        products = []

        def matmul(a, b, /, *, out=None):
            products.append(fast.matmul(a, b, out=out))
            return products[-1]

        with threadpoolctl.threadpool_limits(threads):
            return arithmetic_fingerprint(attrs.evolve(fast, matmul=matmul)), products

    (one, products_of_one), (two, products_of_two) = with_threads(1), with_threads(2)
    assert {name for name in OPERATIONS if one[name] != two[name]} == {"matmul", "norm"}
    differ = {
        (a.dtype.name, a.shape)
        for a, b in zip(products_of_one, products_of_two, strict=True)
        if (a != b).any()
    }
    # Each precision alone, so that a run in either is warned.
    assert {dtype for dtype, shape in differ} == {"float64", "float32"}


def test_numpys_buffer_size_has_another_fingerprint():
    plain, size = arithmetic_fingerprint(fast), np.getbufsize()
    np.setbufsize(1024)
    try:
        assert arithmetic_fingerprint(fast)["mean"] != plain["mean"]
    finally:
        np.setbufsize(size)


def test_differences_keep_the_order_of_the_operations():
    other = evolved(arithmetic={"exp": "f" * 64, "matmul": None, "zeta": "0" * 64, "eta": "1" * 64})
    assert arithmetic_differences(other, SAMPLE) == ("exp", "eta", "zeta")
    # An operation that exists only here is newer than the run, so the run did not use it.
    assert arithmetic_differences(SAMPLE, other) == ("matmul", "exp")
    assert arithmetic_differences(SAMPLE, evolved(arithmetic={"zeta": "0" * 64})) == ()
    assert arithmetic_differences(SAMPLE, SAMPLE) == ()


EXPECTED = {
    "one operation": (
        evolved(arithmetic={"exp": "5e6f7a8b" * 8}),
        "this machine computes exp differently (exp: recorded 00000000, here 5e6f7a8b): "
        "fast runs will not match",
    ),
    "two, for other threads": (
        evolved(
            arithmetic={"exp": None, "matmul": "ab" * 32},
            blas={"threads": "1"},
            variables={"OPENBLAS_NUM_THREADS": "1"},
        ),
        "this machine computes matmul and exp differently (matmul: recorded 00000000, here "
        "abababab; exp: recorded 00000000, here none): fast runs will not match; recorded with 2 "
        "BLAS threads, here 1",
    ),
    "many, for many reasons": (
        evolved(
            arithmetic={name: "cd" * 32 for name in OPERATIONS[:5]},
            variables={"OPENBLAS_CORETYPE": "Haswell"},
            blas={"kernel": "Haswell", "threads": None},
            versions={"numpy": "2.3.5", "python": "3.14.0"},
        ),
        "this machine computes matmul, sum, mean and 2 more differently (matmul: recorded "
        "00000000, here cdcdcdcd; sum: recorded 00000000, here cdcdcdcd; mean: recorded 00000000, "
        "here cdcdcdcd): fast runs will not match; recorded with OPENBLAS_CORETYPE not set, here "
        "Haswell; recorded with BLAS kernel SkylakeX, here Haswell; recorded with numpy version "
        "2.4.6, here 2.3.5",
    ),
    "another CPU": (
        attrs.evolve(evolved(arithmetic={"log": "ef" * 32}), cpu=("X86_V2",)),
        "this machine computes log differently (log: recorded 00000000, here efefefef): fast runs "
        "will not match; recorded with CPU features X86_V2 X86_V3, here X86_V2",
    ),
}


@pytest.mark.parametrize(("here", "expected"), EXPECTED.values(), ids=EXPECTED)
def test_what_to_expect_is_one_line(here, expected):
    assert what_to_expect(SAMPLE, here) == expected


def test_nothing_is_expected_where_all_operations_agree():
    other = evolved(versions={"python": "3.14.0"}, blas={"threads": "1"})
    assert what_to_expect(SAMPLE, other) is None


def test_no_machine_explains_other_bits_of_portable_arithmetic():
    recorded = attrs.evolve(SAMPLE, numerics="portable")
    other = evolved(
        arithmetic={"exp": "f" * 64},
        blas={"threads": "1", "kernel": "Haswell"},
        variables={"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "1"},
        versions={"numpy": "2.3.5"},
    )
    other = attrs.evolve(other, cpu=(), numerics="portable")
    reported = what_to_expect(recorded, other)
    assert reported.startswith(
        "portable arithmetic has the same bits on every machine, but that of exp"
    )
    for cause in ("threads", "BLAS", "kernel", "OPENBLAS", "OMP", "numpy", "CPU", "this machine"):
        assert cause not in reported
    recorded, other = (
        evolved(recorded, versions={"pydnn": "1"}),
        evolved(other, versions={"pydnn": "2"}),
    )
    assert what_to_expect(recorded, other) == f"{reported}; recorded with pydnn version 1, here 2"


def test_changes_are_named_for_people():
    other = evolved(
        versions={"numpy": "2.3.5"},
        machine={"cores": "8"},
        blas={"name": "mkl", "threads": None},
        variables={"OPENBLAS_NUM_THREADS": "1"},
        arithmetic={"exp": "f" * 64, "log": None},
    )
    other = attrs.evolve(other, cpu=(), numerics="portable")
    assert environment_changes(SAMPLE, other) == [
        ("numpy version", "2.4.6", "2.3.5"),
        ("cores", "2", "8"),
        ("BLAS", "openblas", "mkl"),
        ("BLAS threads", "2", "unknown"),
        ("CPU features", "X86_V2 X86_V3", "none"),
        ("OPENBLAS_NUM_THREADS", "not set", "1"),
        ("numerics", "fast", "portable"),
        ("arithmetic of exp", SAMPLE.arithmetic["exp"][:16], "f" * 16),
        ("arithmetic of log", SAMPLE.arithmetic["log"][:16], "unknown"),
    ]
    assert environment_changes(SAMPLE, SAMPLE) == []


REPEATED = {
    "threads are known": (
        SAMPLE,
        {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    ),
    "a variable says them": (
        evolved(variables={"GOTO_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Zen"}),
        {"GOTO_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Zen"},
    ),
    "a worker has other threads than its variables say": (
        evolved(variables={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
        {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    ),
    "threads are not known": (evolved(blas={"threads": None}), {}),
}


@pytest.mark.parametrize(("environment", "wanted"), REPEATED.values(), ids=REPEATED)
def test_variables_repeat_an_environment_and_others_go(environment, wanted):
    variables = variables_to_repeat(environment)
    assert variables == dict.fromkeys(VARIABLES) | wanted


def found_hazards():
    return {hazard.what: hazard for hazard in hazards()}


def test_the_only_hazard_of_a_plain_process_is_its_number_of_threads(no_variables):
    [only] = hazards()
    assert (only.what, only.found, only.breaks) == ("thread count", "set by no variable", False)


VARIABLES_FOUND = {
    "threads": ("OMP_NUM_THREADS", "4", False),
    "varying threads": ("OMP_DYNAMIC", "true", True),
    "kernel": ("OPENBLAS_CORETYPE", "Haswell", True),
    "dispatch": ("NPY_DISABLE_CPU_FEATURES", "X86_V4", True),
}


@pytest.mark.parametrize(("name", "value", "breaks"), VARIABLES_FOUND.values(), ids=VARIABLES_FOUND)
def test_variables_are_hazards(monkeypatch, no_variables, name, value, breaks):
    monkeypatch.setenv(name, value)
    hazard = found_hazards()[name]
    assert (hazard.found, hazard.breaks) == (value, breaks)


def test_a_fixed_number_of_threads_is_not_a_hazard(monkeypatch, no_variables):
    monkeypatch.setenv("MKL_DYNAMIC", "FALSE")
    assert "MKL_DYNAMIC" not in found_hazards()


def test_another_buffer_size_is_a_hazard():
    size = np.getbufsize()
    np.setbufsize(16 * 1024)
    try:
        assert found_hazards()["NumPy's buffer"].found == "16384 elements"
    finally:
        np.setbufsize(size)


def test_numbers_that_are_flushed_to_zero_are_a_hazard(monkeypatch):
    monkeypatch.setattr(module, "flushes_to_zero", lambda dtype: dtype is np.float32)
    reported = found_hazards()
    assert reported["tiny float32 numbers"].breaks
    assert "tiny float64 numbers" not in reported


def test_narrow_pointers_are_a_hazard(monkeypatch):
    monkeypatch.setattr(module, "pointer_bits", lambda: 32)
    assert found_hazards()["pointers"].found == "32 bits"


def test_blas_and_variables_do_not_break_portable_arithmetic(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert module.hazards(portable) == []
    monkeypatch.setattr(module, "flushes_to_zero", lambda dtype: True)
    monkeypatch.setattr(module, "adds_exactly", lambda: False)
    reported = {hazard.what: hazard for hazard in module.hazards(portable)}
    assert list(reported) == ["tiny float64 numbers", "tiny float32 numbers", "BLAS"]
    assert all(hazard.breaks for hazard in reported.values())


shown = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)
texts = st.dictionaries(shown, shown, max_size=4)


@pytest.mark.slow
@given(
    st.builds(
        Environment,
        versions=texts,
        machine=texts,
        blas=texts,
        cpu=st.lists(shown, max_size=4).map(tuple),
        variables=st.dictionaries(st.sampled_from(VARIABLES), shown, max_size=3),
        numerics=shown,
        arithmetic=st.dictionaries(shown, st.from_regex("[0-9a-f]{64}", fullmatch=True)),
    )
)
def test_what_is_written_is_read_again(environment):
    text = environment_text(environment)
    assert text.endswith("}\n")
    assert read_environment(text, "its place") == environment


def damaged(**changes):
    plain = {**json.loads(environment_text(SAMPLE)), **changes}
    return json.dumps({name: value for name, value in plain.items() if value != "GONE"})


DAMAGED = {
    "no JSON": ("{", "is damaged"),
    "too deep": ("[" * 100_000, "is damaged"),
    "a number with too many digits": ('{"cpu": ' + "9" * 5000 + "}", "is damaged"),
    "too long": (" " * 2_000_000, "larger than a mebibyte"),
    "a list": ("[1]", r"it is \[1\], expected an object"),
    "nothing": ("null", "it is None, expected an object"),
    "a field missing": (damaged(cpu="GONE"), "has no cpu"),
    "a field too many": (damaged(extra=1), "has an unknown field 'extra'"),
    "a long name": (damaged(**{"x" * 5000: 1}), "has an unknown field 'xxx"),
    "a list for an object": (damaged(versions=[]), "versions is"),
    "a deep list for an object": (damaged(blas=json.loads("[" * 500 + "]" * 500)), "blas is"),
    "an object for a list": (damaged(cpu={}), "cpu is"),
    "a number for a name": (damaged(cpu=["a", 3]), "a name in cpu is 3"),
    "a number for a text": (damaged(machine={"cores": 2}), "cores in machine is 2"),
    "a number for the numerics": (damaged(numerics=float("nan")), "numerics is nan"),
    "letters for a terminal": (damaged(numerics="\x1b[2J"), r"numerics is '\\x1b\[2J'"),
    "half a letter": (damaged(numerics="\ud800"), r"numerics is '\\ud800'"),
    "two lines": (damaged(blas={"a\nb": "c"}), r"a name in blas is 'a\\nb'"),
    "a long text": (damaged(numerics="x" * 5000), "numerics is 'xxx.*up to 4096 letters"),
    "too many entries": (damaged(blas={str(i): "" for i in range(999)}), "blas is .*up to 256"),
    "a variable for evil": (damaged(variables={"LD_PRELOAD": "x"}), "variables is 'LD_PRELOAD'"),
    "no fingerprint": (damaged(arithmetic={"exp": "12"}), "arithmetic of exp is '12'"),
    "two fingerprints": (damaged(arithmetic={"exp": "ab" * 64}), "arithmetic of exp is 'abab"),
}


@pytest.mark.parametrize(("text", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_reported_in_one_line(text, message):
    with pytest.raises(BadInput, match=message) as reported:
        read_environment(text, "runs/1/environment.json")
    line = str(reported.value)
    assert line.startswith("runs/1/environment.json")
    assert len(line) < 300
    assert line.isprintable()


def test_environments_compare_and_do_not_change_with_what_made_them():
    blas = {"name": "openblas"}
    environment = attrs.evolve(SAMPLE, blas=blas)
    blas["name"] = "mkl"
    assert environment.blas == {"name": "openblas"}
    assert environment != SAMPLE


def test_another_rounding_mode_is_a_hazard_for_every_arithmetic(monkeypatch):
    monkeypatch.setattr(module, "rounds_to_nearest", lambda dtype: dtype is np.float64)
    for numerics in (fast, portable):
        reported = {hazard.what: hazard for hazard in module.hazards(numerics)}
        assert reported["float32 rounding"].breaks
        assert "float64 rounding" not in reported


@pytest.mark.slow
def test_a_run_of_the_portable_cosine_of_0_1_0_is_repeated_to_the_same_bits():
    def cosine_of_0_1_0(x):
        square = DIGITS.multiply(Decimal(x), Decimal(x))
        total, term, n = Decimal(1), Decimal(1), 0
        while abs(term) > Decimal("1e-42"):
            n += 2
            # Rounded to 28 digits, like a decimal number whose sign was changed then.
            minus_square = decimal.Context(prec=28).minus(square)
            term = DIGITS.divide(DIGITS.multiply(term, minus_square), Decimal((n - 1) * n))
            total = DIGITS.add(total, term)
        return float(total)

    then = attrs.evolve(portable, cosine=cosine_of_0_1_0)
    here = evolved(arithmetic=arithmetic_fingerprint(portable))
    recorded = evolved(arithmetic=arithmetic_fingerprint(then))
    assert recorded.arithmetic["cosine"] != here.arithmetic["cosine"]
    assert arithmetic_differences(recorded, here) == ()
    for steps in range(1, 200):
        schedule = cosine_decay(0.1, steps=steps, final=0.001)
        rates = [[schedule(k, numerics) for k in range(steps + 1)] for numerics in (then, portable)]
        assert rates[0] == rates[1]
