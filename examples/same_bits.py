"""Ten steps of training on five imitated machines: do they all give the same bits?

Each line of the output comes from a separate process, which computes as on another processor, or
with another number of threads. It trains one network twice, with NumPy's own arithmetic (`fast`)
and with pydnn's (`portable`), and prints the first digits of the SHA-256 of all parameters.

Run this on another computer: the column `portable` has the digits that the last line asserts. Then
change anything in `train`, even the last bit of the learning rate, and they change.
"""

import itertools
import os
import subprocess
import sys

import numpy as np
import toolz

import pydnn as nn
from pydnn.fingerprints import fingerprint
from pydnn.stages import tanh

MACHINES = {  # the environment variables that imitate each machine
    "this machine": {},
    "with one thread": {"OPENBLAS_NUM_THREADS": "1"},
    "a Xeon of 2013": {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"},
    "a Core i7 of 2008": {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1"},
    "without AVX-512": {"NPY_DISABLE_CPU_FEATURES": "{beyond AVX2}"},
}
PORTABLE = "b839edc14988d74b"


def train(numerics):
    """Return the parameters after ten steps of Adam on 300 examples of 500 features."""
    key = nn.Key(1)
    X = key.at("X").normal((500, 300))
    batch = nn.Batch(X, key.at("Y").integers(10, (1, 300)))
    network, optimizer = nn.serial(nn.dense(50), tanh(), nn.dense(10)), nn.adam(learning_rate=0.01)
    step = nn.make_train_step(network, nn.softmax_cross_entropy(), optimizer, numerics=numerics)
    start = nn.initial_state(network, optimizer, (500,), key=key)
    return toolz.last(nn.scan(step, start, itertools.repeat(batch, 10)))[0].parameters.vector


def digits(numerics):
    """Return the first digits of the fingerprint of the trained parameters."""
    return fingerprint({"parameters": train(numerics)})[:16]


def on_machine(variables):
    """Return the digits of both arithmetics from a process with these environment variables."""
    features = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    beyond = " ".join(f for f in features if f == "X86_V4" or f.startswith("AVX512"))
    filled = {name: text.replace("{beyond AVX2}", beyond) for name, text in variables.items()}
    command = [sys.executable, __file__, "train"]
    return subprocess.check_output(command, env={**os.environ, **filled}, text=True).split()


if sys.argv[1:] == ["train"]:
    print(digits(nn.fast), digits(nn.portable))
else:
    print(f"{'':18} {'fast':16}  portable")
    rows = {name: on_machine(variables) for name, variables in MACHINES.items()}
    for name, (by_fast, by_portable) in rows.items():
        print(f"{name:18} {by_fast}  {by_portable}")
    fasts, portables = (len(set(column)) for column in zip(*rows.values(), strict=True))
    print(f"different results: {fasts} by fast, {portables} by portable arithmetic")
    assert {by_portable for _, by_portable in rows.values()} == {PORTABLE}
