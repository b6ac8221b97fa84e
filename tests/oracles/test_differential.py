import attrs
import numpy as np
import pytest

from pydnn import (
    BadInput,
    Batch,
    Key,
    batch_norm,
    dense,
    dropout,
    elementwise,
    elu,
    gelu,
    huber,
    layer_norm,
    leaky_relu,
    mean_absolute,
    mean_squared,
    parallel,
    poisson,
    relu,
    residual,
    selu,
    serial,
    sigmoid,
    sigmoid_cross_entropy,
    silu,
    softmax_cross_entropy,
    softplus,
)
from pydnn.stages import identity, tanh
from pydnn.testing import compare_with, framework_report

NETWORK = serial(
    dense(4), layer_norm(), parallel(tanh(), gelu(), serial(dense(2), leaky_relu(slope=0.2))),
    dropout(keep_prob=0.5), residual(dense(10), elu(alpha=0.7)), sigmoid(), dense(3), softplus(),
    identity(), silu(), relu(), selu(), gelu(approximate=True), batch_norm(), dense(3),
)  # fmt: skip
LOSSES = {
    "several labels": sigmoid_cross_entropy(positive_weight=[1, 2, 0.5], label_smoothing=0.1),
    "weighted labels": sigmoid_cross_entropy(positive_weight=3.0),
    "classes": softmax_cross_entropy(class_weights=[1, 2, 3], label_smoothing=0.1),
    "squared": mean_squared(),
    "absolute": mean_absolute(),
    "huber": huber(delta=0.3),
    "poisson": poisson(),
}
X = Key(1).normal((3, 7))
WEIGHTS = 0.5 + Key(2).uniform((1, 7))


@pytest.fixture(params=["torch", "jax", "autograd"])
def name(request):
    pytest.importorskip(request.param, reason="install the extra bench")
    return request.param


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_network_of_all_stages_agrees(name, loss):
    rows = (1, 7) if loss.name == "softmax_cross_entropy" else (3, 7)
    batch = Batch(X, Key(3).integers(2, rows), WEIGHTS)
    report = compare_with(name, NETWORK, loss, batch)
    assert len(report.stages) == 19
    assert report.worst < 1e-10
    assert {"W", "b"} == set(report.stages[0].params)


@pytest.mark.filterwarnings("ignore")
def test_the_report_locates_a_wrong_stage(name):
    def off(params, cache, dA, **options):
        dA_prev, grads = dense(2).backward(params, cache, dA)
        return dA_prev, attrs.evolve(grads, db=1.001 * grads.db)

    wrong = attrs.evolve(dense(2), backward=off, backward_into=None)
    network = serial(dense(3), tanh(), wrong, dense(1))
    batch = Batch(X, Key(3).normal((1, 7)))
    report = framework_report(name, network, mean_squared(), batch)
    assert report.stages[2].params["b"] == pytest.approx(1e-3, rel=1e-6)
    assert max(s.worst for s in (report.stages[0], report.stages[1], report.stages[3])) < 1e-10
    with pytest.raises(AssertionError, match=r"2 \(dense\) .*b 1\.0e-03"):
        compare_with(name, network, mean_squared(), batch)


@pytest.mark.filterwarnings("ignore")
def test_a_users_own_stage_needs_a_translation(name):
    cube = elementwise("cube", lambda Z, n: Z**3, lambda dA, Z, A, n: 3 * dA * Z * Z)
    batch = Batch(X, X)
    with pytest.raises(BadInput, match="stage cube has no translation, expected one"):
        compare_with(name, cube, mean_squared(), batch)
    own = {"cube": lambda functions, params, A, options: A**3}
    assert compare_with(name, cube, mean_squared(), batch, translations=own).worst < 1e-13


def test_refusals(monkeypatch):
    with pytest.raises(BadInput, match="there is no framework 'tensorflow'"):
        compare_with("tensorflow", relu(), mean_squared(), Batch(X, X))
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(BadInput, match=r"needs torch, .* run pip install 'torch>=2.4'"):
        compare_with("torch", relu(), mean_squared(), Batch(X, X))
    with pytest.raises(BadInput, match=r"batch\.X is float32"):
        compare_with("torch", relu(), mean_squared(), Batch(X.astype(np.float32), X))
