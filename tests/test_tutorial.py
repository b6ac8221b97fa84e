import attrs
import numpy as np
import pytest
from helpers import arrays_in, frozen

from pydnn import BadInput, NotFinite
from pydnn.data import load_catvnoncat, to_batch
from pydnn.metrics import accuracy
from pydnn.recipes import prepare, tutorial_recipe
from pydnn.testing import check_function
from pydnn.training import scan
from pydnn.tutorial import (
    ActivationCache,
    Gradients,
    L_model_backward,
    L_model_forward,
    LayerGradients,
    LinearCache,
    Parameters,
    compute_cost,
    dnn_model,
    from_dict,
    initialize_parameters_deep,
    linear_activation_backward,
    linear_activation_forward,
    linear_backward,
    linear_forward,
    load_data,
    predict,
    to_dict,
    update_parameters,
)

PUBLISHED_COSTS = [
    0.771749, 0.672053, 0.648263, 0.611507, 0.567047, 0.540138, 0.527930, 0.465477, 0.369126,
    0.391747, 0.315187, 0.272700, 0.237419, 0.199601, 0.189263, 0.161189, 0.148214, 0.137775,
    0.129740, 0.121225, 0.113821, 0.107839, 0.102855, 0.100897, 0.092878,
]  # fmt: skip
DIMS = (12288, 20, 7, 5, 1)


def drawn(seed, *shapes):
    """The exercises' inputs: standard normal numbers, one array after the other."""
    random = np.random.RandomState(seed)
    return [frozen(random.randn(*shape)) for shape in shapes]


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


# What the published exercises print


def test_initialize_parameters_deep_draws_one_stream():
    parameters = initialize_parameters_deep([5, 4, 3], seed=3)
    random = np.random.RandomState(3)
    np.testing.assert_array_equal(parameters["W1"], random.randn(4, 5) / np.sqrt(5))
    np.testing.assert_array_equal(parameters["W2"], random.randn(3, 4) / np.sqrt(4))
    np.testing.assert_array_equal(parameters["b2"], np.zeros((3, 1)))


def test_linear_forward():
    A, W, b = drawn(1, (3, 2), (1, 3), (1, 1))
    Z, cache = linear_forward(A, W, b)
    close(Z, [[3.26295337, -1.23429987]])
    assert cache == LinearCache(A, W, b)


@pytest.mark.parametrize(
    ("activation", "A"),
    [("sigmoid", [[0.96890023, 0.11013289]]), ("relu", [[3.43896131, 0.0]])],
)
def test_linear_activation_forward(activation, A):
    A_prev, W, b = drawn(2, (3, 2), (1, 3), (1, 1))
    found, cache = linear_activation_forward(A_prev, W, b, activation)
    close(found, A)
    assert cache == ActivationCache(LinearCache(A_prev, W, b), linear_forward(A_prev, W, b)[0])


def test_L_model_forward():  # noqa: N802
    X, W1, b1, W2, b2 = drawn(1, (4, 2), (3, 4), (3, 1), (1, 3), (1, 1))
    AL, caches = L_model_forward(X, from_dict({"W1": W1, "b1": b1, "W2": W2, "b2": b2}))
    close(AL, [[0.17007265, 0.2524272]])
    assert len(caches) == 2


def test_compute_cost():
    # -(log 0.8 + log 0.9 + log 0.4) / 3
    cost = compute_cost(np.array([[0.8, 0.9, 0.4]]), np.array([[1, 1, 1]]))
    assert cost == pytest.approx(0.41493159961539694, abs=1e-16)


def test_linear_backward():
    dZ, A, W, b = drawn(1, (1, 2), (3, 2), (1, 3), (1, 1))
    dA_prev, dW, db = linear_backward(dZ, LinearCache(A, W, b))
    close(
        dA_prev, [[0.51822968, -0.19517421], [-0.40506361, 0.15255393], [2.37496825, -0.89445391]]
    )
    close(dW, [[-0.10076895, 1.40685096, 1.64992505]])
    close(db, [[0.50629448]])


@pytest.mark.parametrize(
    ("activation", "dA_prev", "dW", "db"),
    [
        (
            "sigmoid",
            [[0.11017994, 0.01105339], [0.09466817, 0.00949723], [-0.05743092, -0.00576154]],
            [[0.10266786, 0.09778551, -0.01968084]],
            [[-0.05729622]],
        ),
        (
            "relu",
            [[0.44090989, 0.0], [0.37883606, 0.0], [-0.2298228, 0.0]],
            [[0.44513824, 0.37371418, -0.10478989]],
            [[-0.20837892]],
        ),
    ],
)
def test_linear_activation_backward(activation, dA_prev, dW, db):
    dA, A, W, b, Z = drawn(2, (1, 2), (3, 2), (1, 3), (1, 1), (1, 2))
    found = linear_activation_backward(dA, ActivationCache(LinearCache(A, W, b), Z), activation)
    for ours, printed in zip(found, (dA_prev, dW, db), strict=True):
        close(ours, printed)


def test_L_model_backward():  # noqa: N802
    AL, A1, W1, b1, Z1, A2, W2, b2, Z2 = drawn(
        3, (1, 2), (4, 2), (3, 4), (3, 1), (3, 2), (3, 2), (1, 3), (1, 1), (1, 2)
    )
    caches = (
        ActivationCache(LinearCache(A1, W1, b1), Z1),
        ActivationCache(LinearCache(A2, W2, b2), Z2),
    )
    grads = L_model_backward(AL, np.array([[1, 0]]), caches)
    close(
        grads["dW1"],
        [
            [0.41010002, 0.07807203, 0.13798444, 0.10502167],
            [0, 0, 0, 0],
            [0.05283652, 0.01005865, 0.01777766, 0.0135308],
        ],
    )
    close(grads["db1"], [[-0.22007063], [0], [-0.02835349]])
    close(
        grads["dA1"],
        [[0.12913162, -0.44014127], [-0.14175655, 0.48317296], [0.01663708, -0.05670698]],
    )
    assert grads["dA0"].shape == (4, 2)


def test_update_parameters():
    shapes = ((3, 4), (3, 1), (1, 3), (1, 1))
    parameters = from_dict(dict(zip(("W1", "b1", "W2", "b2"), drawn(2, *shapes), strict=True)))
    grads = from_dict(dict(zip(("dW1", "db1", "dW2", "db2"), drawn(3, *shapes), strict=True)))
    updated = update_parameters(parameters, grads, 0.1)
    close(
        updated["W1"],
        [
            [-0.59562069, -0.09991781, -2.14584584, 1.82662008],
            [-1.76569676, -0.80627147, 0.51115557, -1.18258802],
            [-1.0535704, -0.86128581, 0.68284052, 2.20374577],
        ],
    )
    close(updated["b1"], [[-0.04659241], [-1.28888275], [0.53405496]])
    close(updated["W2"], [[-0.55569196, 0.0354055, 1.32964895]])
    close(updated["b2"], [[-0.84610769]])


# Worked by hand, and properties


def test_one_layer_by_hand():
    # Z = [1, 0], AL = [3/4-ish, 1/2]; dZ = AL - Y, dW = mean(dZ A), db = mean(dZ), dA0 = W dZ.
    X, Y = np.array([[1.0, -1.0]]), np.array([[1, 0]])
    parameters = from_dict({"W1": [[0.5]], "b1": [[0.5]]})
    AL, caches = L_model_forward(X, parameters)
    sigma = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(AL, [[sigma, 0.5]])
    grads = L_model_backward(AL, Y, caches)
    np.testing.assert_allclose(grads["dW1"], [[(sigma - 1 - 0.5) / 2]])
    np.testing.assert_allclose(grads["db1"], [[(sigma - 1 + 0.5) / 2]])
    np.testing.assert_allclose(grads["dA0"], [[0.5 * (sigma - 1), 0.25]])


def test_gradients_are_those_of_central_differences():
    X, *_ = drawn(7, (4, 6))
    Y = np.array([[0, 1, 1, 0, 1, 0]])
    parameters = initialize_parameters_deep((4, 5, 3, 1), seed=2)

    def cost(X, **parameters):
        return compute_cost(L_model_forward(X, from_dict(parameters))[0], Y)

    def gradients(X, **parameters):
        grads = L_model_backward(*_forward_and_labels(X, Y, from_dict(parameters)))
        # dA0 is per example, before the mean.
        return {"X": grads["dA0"] / 6} | {name: grads[f"d{name}"] for name in parameters}

    check_function(cost, gradients, {"X": X} | to_dict(parameters))


def _forward_and_labels(X, Y, parameters):
    AL, caches = L_model_forward(X, parameters)
    return AL, Y, caches


def test_cost_and_gradients_are_finite_where_the_sigmoid_is_0_or_1():
    AL, Y = np.array([[0.0, 1.0, 0.0, 1.0]]), np.array([[0, 1, 1, 0]])
    assert compute_cost(AL[:, :2], Y[:, :2]) == 0
    assert 100 < compute_cost(AL, Y) < 1000
    Z = np.array([[-1000.0, 1000.0, -1000.0, 1000.0]])
    caches = (ActivationCache(LinearCache(Z, [[1.0]], [[0.0]]), Z),)
    assert all(np.isfinite(a).all() for a in arrays_in(L_model_backward(AL, Y, caches)))


def test_nothing_is_changed_and_nothing_writable_is_handed_out():
    X, *_ = drawn(7, (4, 6))
    Y = frozen([[0, 1, 1, 0, 1, 0]])
    parameters = initialize_parameters_deep((4, 3, 1))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    AL, caches = L_model_forward(X, parameters)
    grads = L_model_backward(AL, Y, caches)
    updated = update_parameters(parameters, grads, 0.1)
    trained = dnn_model(X, Y, (4, 3, 1), num_iterations=2, print_cost=False)
    made = list(arrays_in((parameters, AL, caches, grads, updated, trained)))
    assert not any(array.flags.writeable for array in made)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert parameters == initialize_parameters_deep((4, 3, 1))


def test_dictionaries_become_records_and_back():
    X, *_ = drawn(7, (4, 6))
    parameters = initialize_parameters_deep((4, 3, 1))
    assert from_dict(to_dict(parameters)) == parameters
    assert list(to_dict(parameters)) == ["W1", "b1", "W2", "b2"]
    grads = L_model_backward(*_forward_and_labels(X, np.array([[0, 1, 1, 0, 1, 0]]), parameters))
    assert from_dict(to_dict(grads)) == grads
    assert sorted(to_dict(grads)) == ["dA0", "dA1", "dW1", "dW2", "db1", "db2"]
    without_inputs = Gradients(tuple(LayerGradients(g.dW, g.db) for g in grads.layers))
    assert sorted(to_dict(without_inputs)) == ["dW1", "dW2", "db1", "db2"]


# The whole model


def test_dnn_model_is_the_fold_of_the_functions_above(capsys):
    X, *_ = drawn(7, (4, 6))
    Y = np.array([[0, 1, 1, 0, 1, 0]])
    trained = dnn_model(X, Y, (4, 3, 1), learning_rate=0.5, num_iterations=201)
    parameters, costs = initialize_parameters_deep((4, 3, 1)), []
    for _ in range(201):
        AL, caches = L_model_forward(X, parameters)
        costs.append(compute_cost(AL, Y))
        parameters = update_parameters(parameters, L_model_backward(AL, Y, caches), 0.5)
    np.testing.assert_allclose(trained.costs, costs, rtol=1e-10)
    np.testing.assert_allclose(trained["W1"], parameters["W1"], rtol=1e-9)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"Cost after iteration {i}: {costs[i]:.6f}" for i in (0, 100, 200)]
    assert set(np.unique(predict(X, trained))) <= {0.0, 1.0}
    np.testing.assert_array_equal(predict(X, trained), (L_model_forward(X, trained)[0] > 0.5))


def test_dnn_model_can_be_silent(capsys):
    dnn_model(np.ones((2, 2)), [[0, 1]], (2, 1), num_iterations=1, print_cost=False)
    assert capsys.readouterr().out == ""


def test_a_training_that_diverges_stops_and_hands_back_the_last_state():
    X, *_ = drawn(7, (4, 6))
    with pytest.raises(NotFinite, match="stopped being finite at iteration") as stop:
        dnn_model(X, [[0, 1, 1, 0, 1, 0]], (4, 3, 1), learning_rate=1e200, print_cost=False)
    assert np.isfinite(stop.value.state.parameters.vector).all()


REFUSED = {
    "one layer": (lambda: initialize_parameters_deep([5]), r"layers_dims is \(5,\), expected"),
    "empty layer": (lambda: initialize_parameters_deep([5, 0]), "number of units is 0"),
    "activation": (
        lambda: linear_activation_forward(np.ones((1, 1)), [[1]], [[1]], "rleu"),
        "there is no activation 'rleu': did you mean 'relu'",
    ),
    "a dictionary": (
        lambda: L_model_forward(np.ones((1, 1)), {"W1": 1}),
        "got a dict, expected Parameters: make one with from_dict",
    ),
    "no probability": (lambda: compute_cost(np.array([[1.5]]), [[1]]), "AL has entries outside"),
    "labels' shape": (lambda: compute_cost(np.array([[0.5]]), [[1, 0]]), r"Y has shape \(1, 2\)"),
    "unknown names": (lambda: from_dict({"weights": 1}), "names are weights, expected those of"),
    "a gap": (lambda: from_dict({"W1": [[1]], "W2": [[1]], "b1": [[1]]}), "b2 is missing"),
    "layers that do not fit": (
        lambda: from_dict({"W1": [[1]], "b1": [[1]], "W2": [[1, 1]], "b2": [[1]]}),
        r"W2 has shape \(1, 2\), expected \(n, 1\): W1 has 1 rows",
    ),
    "gradients of other layers": (
        lambda: update_parameters(
            initialize_parameters_deep([2, 1]), from_dict({"dW1": [[1]], "db1": [[1]]}), 0.1
        ),
        r"dW1 has shape \(1, 1\), expected \(1, 2\)",
    ),
    "two outputs": (lambda: dnn_model(np.ones((2, 1)), [[1]], (2, 2)), "ends in 2, expected 1"),
    "rows for columns": (
        lambda: dnn_model(np.ones((5, 2)), [[1, 0]], (2, 1)),
        r"X has shape \(5, 2\), expected \(2, m\)",
    ),
    "labels": (lambda: dnn_model(np.ones((2, 1)), [[2]], (2, 1)), r"label 2 at index \(0, 0\)"),
    "NaN": (lambda: dnn_model(np.full((2, 1), np.nan), [[1]], (2, 1)), "X holds nan in row"),
    "no parameter": (lambda: initialize_parameters_deep([2, 1])["W3"], "there is no array 'W3'"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


# On the real photos


def test_load_data_gives_the_photos_in_the_tutorials_shapes(cats_directory):
    train_x, train_y, test_x, test_y, classes = load_data(cats_directory)
    assert (train_x.shape, train_y.shape) == ((209, 64, 64, 3), (1, 209))
    assert (test_x.shape, test_y.shape) == ((50, 64, 64, 3), (1, 50))
    assert classes.tolist() == [b"non-cat", b"cat"]
    assert train_y.sum() == 72


def test_the_first_published_costs(cats_directory):
    train, _ = (to_batch(part) for part in load_catvnoncat(cats_directory))
    trained = dnn_model(train.X, train.Y, DIMS, num_iterations=201, print_cost=False)
    assert [round(cost, 6) for cost in trained.costs[::100]] == PUBLISHED_COSTS[:3]


@pytest.mark.slow
def test_dnn_model_gives_the_published_costs_and_accuracies(cats_directory):
    train, test = (to_batch(part) for part in load_catvnoncat(cats_directory))
    trained = dnn_model(train.X, train.Y, DIMS, num_iterations=2500, print_cost=False)
    assert [round(cost, 6) for cost in trained.costs[::100]] == PUBLISHED_COSTS
    assert round(accuracy(predict(train.X, trained), train.Y), 6) == 0.985646
    assert accuracy(predict(test.X, trained), test.Y) == 0.8
    assert isinstance(trained, Parameters)


@pytest.mark.slow
def test_a_step_composed_by_hand_gives_the_published_costs(cats_directory):
    train, _ = (to_batch(part) for part in load_catvnoncat(cats_directory))
    job = prepare(tutorial_recipe(), train)
    costs = [info.cost for _, info in scan(job.train_step, job.state, job.batches)]
    assert [round(cost, 6) for cost in costs[::100]] == PUBLISHED_COSTS


@pytest.mark.slow
def test_portable_arithmetic_gives_the_published_costs_on_every_machine(cats_directory):
    train, _ = (to_batch(part) for part in load_catvnoncat(cats_directory))
    job = prepare(attrs.evolve(tutorial_recipe(), numerics="portable"), train)
    costs = [info.cost for _, info in scan(job.train_step, job.state, job.batches)]
    assert [round(cost, 6) for cost in costs[::100]] == PUBLISHED_COSTS
