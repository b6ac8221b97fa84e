"""Compare stages, losses, optimizers and schedules with PyTorch's, in float64."""

import numpy as np
import pytest

from pydnn import (
    Context,
    Key,
    adagrad,
    adam,
    adamw,
    amsgrad,
    batch_norm,
    cosine_decay,
    dense,
    elu,
    gelu,
    gradient_descent,
    huber,
    layer_norm,
    leaky_relu,
    mean_absolute,
    mean_squared,
    momentum,
    nadam,
    nesterov,
    one_cycle,
    poisson,
    relu,
    rmsprop,
    selu,
    sigmoid,
    sigmoid_cross_entropy,
    silu,
    softmax_cross_entropy,
    softplus,
)
from pydnn.parameters import layout_of, leaves, pack
from pydnn.stages import tanh
from pydnn.stages.dense import DenseParams

torch = pytest.importorskip("torch", reason="PyTorch is not installed, install the extra bench")
nn, F = torch.nn, torch.nn.functional

N_IN, N_OUT, M = 5, 4, 7


@pytest.fixture(autouse=True)
def in_float64():
    # PyTorch's NAdam keeps its product of momenta in the default dtype, not in the parameters'.
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def tensor(array):
    return torch.tensor(np.array(array), requires_grad=True)


# Stages: ours, and theirs as a function of examples in rows and the parameters as tensors.
STAGES = {
    "dense": (dense(N_OUT), lambda X, W, b: F.linear(X, W, b[:, 0])),
    "relu": (relu(), F.relu),
    "leaky relu": (leaky_relu(slope=0.2), lambda X: F.leaky_relu(X, 0.2)),
    "elu": (elu(alpha=0.7), lambda X: F.elu(X, 0.7)),
    "selu": (selu(), F.selu),
    "gelu": (gelu(), F.gelu),
    "gelu, approximate": (gelu(approximate=True), lambda X: F.gelu(X, approximate="tanh")),
    "silu": (silu(), F.silu),
    "softplus": (softplus(), F.softplus),
    "tanh": (tanh(), torch.tanh),
    "sigmoid": (sigmoid(), torch.sigmoid),
    "batch norm": (
        batch_norm(), lambda X, g, b: F.batch_norm(X, None, None, g[:, 0], b[:, 0], training=True),
    ),
    "layer norm": (
        layer_norm(), lambda X, g, b: F.layer_norm(X, (N_IN,), g[:, 0], b[:, 0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), STAGES.values(), ids=STAGES)
def test_outputs_and_gradients_of_stages_agree(ours, theirs):
    key = Key(3)
    params, (n_out,) = ours.init(key, (N_IN,))
    layout = layout_of(params)
    params = layout.packed(key.at("params").normal(layout.size)).tree
    X = 2 * key.at("X").normal((N_IN, M))
    dA = key.at("dA").normal((n_out, M))
    A, cache = ours.forward(params, X, Context(training=True))
    dX, grads = ours.backward(params, cache, dA)

    inputs = [tensor(X.T), *map(tensor, leaves(params))]
    rows = theirs(*inputs)
    rows.backward(torch.tensor(dA.T.copy()))
    np.testing.assert_allclose(A, rows.detach().numpy().T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dX, inputs[0].grad.numpy().T, rtol=1e-10, atol=1e-12)
    for gradient, parameter in zip(leaves(grads), inputs[1:], strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_running_statistics_agree():
    stage, module = batch_norm(decay=0.9), nn.BatchNorm1d(N_IN, momentum=0.1, dtype=torch.float64)
    params, _ = stage.init(Key(1), (N_IN,))
    running = stage.statistics.init(params)
    for i in range(5):
        X = 3 * Key(2).at(i).normal((N_IN, M)) + i
        running = stage.statistics.absorb(
            running, stage.forward(params, X, Context(training=True))[1]
        )
        module(torch.tensor(X.T))
    np.testing.assert_allclose(running.mean[:, 0], module.running_mean, rtol=1e-12)
    np.testing.assert_allclose(running.variance[:, 0], module.running_var, rtol=1e-12)
    module.eval()
    A, _ = stage.forward(params, X, Context(statistics=running))
    np.testing.assert_allclose(A.T, module(torch.tensor(X.T)).detach(), rtol=1e-10, atol=1e-12)


KEY = Key(4)
Z1, Z3 = 3 * KEY.normal((1, M)), 3 * KEY.at("three").normal((3, M))
BINARY, LABELS = (KEY.at("Y", n).integers(2, (n, M)).astype(float) for n in (1, 3))
NUMBERS = KEY.at("class").integers(3, (1, M)).astype(float)
REALS, COUNTS = KEY.at("reals").normal((3, M)), KEY.at("counts").integers(6, (3, M)).astype(float)
P3 = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)


def per_class(**options):
    return lambda Z, Y: F.cross_entropy(Z, Y[:, 0].long(), **options)


LOSSES = {
    "sigmoid": (sigmoid_cross_entropy(), Z1, BINARY, F.binary_cross_entropy_with_logits),
    "several labels": (sigmoid_cross_entropy(), Z3, LABELS, F.binary_cross_entropy_with_logits),
    "positive weights": (
        sigmoid_cross_entropy(positive_weight=[2, 0.5, 3]), Z3, LABELS,
        lambda Z, Y: F.binary_cross_entropy_with_logits(Z, Y, pos_weight=P3),
    ),
    "softmax": (softmax_cross_entropy(), Z3, NUMBERS, per_class()),
    "softmax, smoothed": (
        softmax_cross_entropy(label_smoothing=0.2), Z3, NUMBERS, per_class(label_smoothing=0.2),
    ),
    "softmax, weighted": (
        softmax_cross_entropy(class_weights=[2, 0.5, 3]), Z3, NUMBERS, per_class(weight=P3),
    ),
    "squared": (mean_squared(), Z3, REALS, F.mse_loss),
    "absolute": (mean_absolute(), Z3, REALS, F.l1_loss),
    "huber": (huber(delta=0.8), Z3, REALS, lambda Z, Y: F.huber_loss(Z, Y, delta=0.8)),
    "poisson": (poisson(), Z3, COUNTS, F.poisson_nll_loss),
}  # fmt: skip


@pytest.mark.parametrize(("ours", "Z", "Y", "theirs"), LOSSES.values(), ids=LOSSES)
def test_costs_and_gradients_of_losses_agree(ours, Z, Y, theirs):
    cost, dZ = ours(Z, Y)
    rows = tensor(Z.T)
    expected = theirs(rows, torch.tensor(Y.T.copy()))
    expected.backward()
    assert cost == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(dZ, rows.grad.numpy().T, rtol=1e-10, atol=1e-14)


LR = 0.01
OPTIMIZERS = {
    "gradient descent": (gradient_descent(learning_rate=LR), lambda p: torch.optim.SGD(p, lr=LR)),
    "momentum": (momentum(learning_rate=LR), lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9)),
    "nesterov": (
        nesterov(learning_rate=LR),
        lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, nesterov=True),
    ),
    "adagrad": (adagrad(learning_rate=LR), lambda p: torch.optim.Adagrad(p, lr=LR)),
    "rmsprop": (rmsprop(learning_rate=LR), lambda p: torch.optim.RMSprop(p, lr=LR, alpha=0.9)),
    "adam": (adam(learning_rate=LR), lambda p: torch.optim.Adam(p, lr=LR)),
    "amsgrad": (amsgrad(learning_rate=LR), lambda p: torch.optim.Adam(p, lr=LR, amsgrad=True)),
    "nadam": (nadam(learning_rate=LR), lambda p: torch.optim.NAdam(p, lr=LR)),
    "adamw": (
        adamw(learning_rate=LR, weight_decay=0.1, only=["W", "b"]),
        lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_parameters_agree_after_200_steps_of_random_gradients(ours, theirs):
    params = pack((DenseParams(Key(1).normal((3, 4)), Key(2).normal((3, 1))),))
    theirs_p = torch.tensor(params.vector.copy(), requires_grad=True)
    optimizer = theirs([theirs_p])
    state = ours.init(params)
    for i in range(200):
        g = Key(9).at(i).normal(15) * np.exp(np.sin(i / 9))
        updates, state = ours.update(g, state, params)
        params = params.with_vector(params.vector + updates)
        theirs_p.grad = torch.tensor(g)
        optimizer.step()
    np.testing.assert_allclose(params.vector, theirs_p.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("steps", [10, 33])
def test_schedules_agree(steps):
    def rates(make):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
        schedule = make(optimizer)
        for _ in range(steps):
            yield schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()

    cycle = one_cycle(2.0, steps=steps)
    theirs = rates(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 2.0, total_steps=steps + 1))
    # PyTorch takes the first step when it is made, so it needs one more.
    longer = one_cycle(2.0, steps=steps + 1)
    assert [longer(i) for i in range(steps)] == pytest.approx(list(theirs), rel=1e-12)
    assert cycle(steps) == cycle(steps - 1)
    cosine = cosine_decay(0.3, steps=steps, final=0.01)
    theirs = rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=steps, eta_min=0.01)
    )
    assert [cosine(i) for i in range(steps)] == pytest.approx(list(theirs), rel=1e-12)
