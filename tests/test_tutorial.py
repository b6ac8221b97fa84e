import pickle
import pydoc

import attrs
import numpy as np
import pytest
from helpers import arrays_in, frozen

from pydnn import (
    BadInput,
    Batch,
    Key,
    NotFinite,
    adam,
    batch_norm,
    dense,
    gradient_descent,
    initial_state,
    make_train_step,
    output_of,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.data import load_catvnoncat, to_batch
from pydnn.jobs.job import prepare
from pydnn.metrics import accuracy
from pydnn.recipes.tutorial import tutorial_network, tutorial_recipe
from pydnn.testing import check_function
from pydnn.training import scan
from pydnn.tutorial import (
    ActivationCache,
    Gradients,
    L_layer_model,
    L_model_backward,
    L_model_forward,
    LayerGradients,
    LinearCache,
    Parameters,
    compute_cost,
    dnn_model,
    from_dict,
    from_state,
    initialize_parameters_deep,
    linear_activation_backward,
    linear_activation_forward,
    linear_backward,
    linear_forward,
    load_data,
    predict,
    print_mislabeled_images,
    relu_backward,
    sigmoid_backward,
    to_dict,
    to_state,
    two_layer_model,
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


def test_functions_change_nothing_and_return_read_only_arrays():
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


def test_records_are_read_like_the_tutorials_dictionaries():
    parameters = initialize_parameters_deep(np.array([4, 3, 1]))
    assert len(parameters) // 2 == 2
    assert list(parameters) == list(parameters.keys()) == ["W1", "b1", "W2", "b2"]
    assert "W2" in parameters
    assert "W3" not in parameters
    assert parameters.get("W3") is None
    doubled = from_dict({**parameters, "W1": 2 * parameters["W1"]})
    np.testing.assert_array_equal(doubled["W1"], 2 * to_dict(parameters)["W1"])
    assert doubled["b2"] is not parameters["b2"]
    X, *_ = drawn(7, (4, 6))
    A, cache = linear_activation_forward(X, parameters["W1"], parameters["b1"], "relu")
    linear_cache, activation_cache = cache
    A_prev, W, b = linear_cache
    np.testing.assert_array_equal(A, np.maximum(activation_cache, 0))
    np.testing.assert_array_equal(activation_cache, W @ A_prev + b)


def test_an_array_read_by_name_behaves_like_an_ordinary_one():
    W = initialize_parameters_deep([2, 1])["W1"]
    plain = np.asarray(W)
    assert type(plain) is np.ndarray
    assert type(W + 1) is type(np.sqrt(abs(W))) is np.ndarray
    assert (repr(W), str(W)) == (repr(plain), str(plain))
    assert W.sum() == plain.sum()
    mine = W.copy()
    mine[0, 0] = 7
    mine += 1
    assert mine[0, 0] == 8
    assert pickle.loads(pickle.dumps(W)).tolist() == W.tolist()


def test_functions_take_the_tutorials_dictionaries_and_tuples():
    X, dA, W, b, Z = drawn(3, (3, 5), (2, 5), (2, 3), (2, 1), (2, 5))
    for activation in ("relu", "sigmoid"):
        ours = linear_activation_backward(dA, ActivationCache(LinearCache(X, W, b), Z), activation)
        theirs = linear_activation_backward(dA, ((X, W, b), Z), activation)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    parameters = initialize_parameters_deep((3, 1))
    grads = from_dict({"dW1": [[1, 2, 3]], "db1": [[4]]})
    ours = update_parameters(parameters, grads, 0.5)
    assert update_parameters(to_dict(parameters), to_dict(grads), 0.5) == ours
    np.testing.assert_array_equal(
        L_model_forward(X, to_dict(parameters))[0], L_model_forward(X, parameters)[0]
    )
    caches = [((X, parameters["W1"], parameters["b1"]), Z[:1])]
    AL = 1 / (1 + np.exp(-Z[:1]))
    backward = L_model_backward(AL, [[0, 1, 0, 1, 1]], caches)
    close(backward["dA0"], parameters["W1"].T @ (AL - [[0, 1, 0, 1, 1]]))


def test_a_published_exercise_updates_layers_that_do_not_fit_each_other():
    # W1 (1, 2) does not fit below W2 (3, 3), but an update does not need layers to fit.
    numbers = {"W1": [[1.0, 2.0]], "b1": [[3.0]], "W2": np.eye(3), "b2": np.ones((3, 1))}
    grads = {f"d{name}": np.ones_like(array) for name, array in numbers.items()}
    updated = update_parameters(from_dict(numbers), from_dict(grads), 0.5)
    for name, array in numbers.items():
        np.testing.assert_array_equal(updated[name], np.asarray(array) - 0.5)
    assert from_dict(to_dict(updated)) == updated


def test_the_backward_functions_of_the_activations():
    Z = np.array([[-1.0, 0.0, 2.0]])
    dA = np.array([[3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(relu_backward(dA, Z), [[0, 0, 5]])
    s = 1 / (1 + np.exp(-Z))
    close(sigmoid_backward(dA, Z), dA * s * (1 - s))


def test_help_shows_the_meaning_of_a_record_without_private_names():
    for record in (Parameters, Gradients, LinearCache, ActivationCache, LayerGradients):
        text = pydoc.plain(pydoc.render_doc(record))
        assert "attrs" not in text
        assert len(text.splitlines()) < 50


# To the library and back


def test_parameters_become_a_state_of_the_library_and_back():
    X, *_ = drawn(7, (4, 6))
    Y = np.array([[0, 1, 1, 0, 1, 0]])
    parameters = initialize_parameters_deep((4, 3, 1))
    state = to_state(parameters)
    assert from_state(state) == parameters
    network = tutorial_network((3,))
    logits = output_of(network, state, X)
    np.testing.assert_array_equal(logits > 0, predict(X, Y, parameters))
    optimizer = gradient_descent(learning_rate=0.5)
    step = make_train_step(network, sigmoid_cross_entropy(), optimizer)
    after, _ = step(state, Batch(X, Y))
    AL, caches = L_model_forward(X, parameters)
    expected = update_parameters(parameters, L_model_backward(AL, Y, caches), 0.5)
    for name, array in expected.items():
        close(from_state(after)[name], array)


def test_a_state_has_the_dtype_of_the_parameters_and_the_state_of_its_optimizer():
    parameters = from_dict({"W1": np.ones((1, 2), np.float32), "b1": np.zeros((1, 1), np.float32)})
    state = to_state(parameters, optimizer=adam(), key=Key(5))
    assert state.parameters.vector.dtype == np.float32
    assert state.key == Key(5)
    step = make_train_step(tutorial_network(()), sigmoid_cross_entropy(), adam())
    assert step(state, Batch(np.ones((2, 1), np.float32), np.ones((1, 1), np.float32)))


def test_an_update_keeps_the_precision_of_the_parameters():
    ones = np.ones((1, 1), np.float32)
    updated = update_parameters({"W1": ones, "b1": ones}, {"dW1": ones, "db1": ones}, 0.5)
    assert updated["W1"].dtype == np.float32


# The whole model


def test_labels_between_do_not_change_a_prediction_and_print_nothing(capsys):
    X, *_ = drawn(7, (4, 6))
    parameters = initialize_parameters_deep((4, 3, 1))
    expected = predict(X, parameters)
    np.testing.assert_array_equal(predict(X, [[0, 1, 1, 0, 1, 0]], parameters), expected)
    np.testing.assert_array_equal(predict(X, parameters=parameters), expected)
    assert capsys.readouterr().out == ""


def test_models_take_numpys_integers_and_have_both_names(capsys):
    X, *_ = drawn(7, (4, 6))
    Y = [[0, 1, 1, 0, 1, 0]]
    ours = L_layer_model(X, Y, np.array([4, 3, 1]), num_iterations=np.int64(3))
    assert ours == dnn_model(X, Y, (4, 3, 1), num_iterations=3, print_cost=False)
    with pytest.raises(BadInput, match=r"X has shape \(4, 6\), expected \(5, m\)"):
        L_layer_model(X, Y, np.array([5, 3, 1]))
    assert capsys.readouterr().out == ""


def test_the_model_of_two_layers_starts_from_small_weights():
    X, *_ = drawn(7, (4, 6))
    trained = two_layer_model(X, [[0, 1, 1, 0, 1, 0]], (4, 3, 1), 1e-12, num_iterations=1)
    stream = np.random.RandomState(1).randn(15) * 0.01
    close(trained["W1"], stream[:12].reshape(3, 4))
    close(trained["W2"], stream[12:].reshape(1, 3))


def test_wrongly_predicted_images_are_shown_on_a_sheet():
    pytest.importorskip("PIL")
    X = np.linspace(0, 1, 3 * 16 * 4).reshape(4, -1).T
    sheet = print_mislabeled_images([b"non-cat", b"cat"], X, [[0, 1, 1, 0]], [[0, 0, 1, 1]])
    alone = print_mislabeled_images(["a", "b"], X[:, 1:2], [[1]], [[0]])
    assert sheet.width == 2 * alone.width
    assert sheet.height == alone.height


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


def test_an_error_of_a_diverging_training_has_the_last_good_state():
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
        lambda: L_model_forward(
            np.ones((1, 1)), {"W1": [[1]], "b1": [[1]], "W2": [[1, 1]], "b2": [[1]]}
        ),
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
    "labels of other examples": (
        lambda: predict(np.ones((2, 3)), [[1, 0]], initialize_parameters_deep([2, 1])),
        r"y has shape \(1, 2\), expected \(1, 3\)",
    ),
    "no parameters": (lambda: predict(np.ones((2, 3))), "got a NoneType, expected Parameters"),
    "a cache of two": (
        lambda: linear_backward(np.ones((1, 1)), (np.ones((1, 1)), np.ones((1, 1)))),
        "got a tuple, expected LinearCache: pass the cache on",
    ),
    "three layers for two": (
        lambda: two_layer_model(np.ones((2, 1)), [[1]], (2, 3, 3, 1)),
        r"layers_dims is \(2, 3, 3, 1\), expected three numbers",
    ),
    "a state of layers that do not fit": (
        lambda: to_state({"W1": [[1]], "b1": [[1]], "W2": [[1, 1]], "b2": [[1]]}),
        r"W2 has shape \(1, 2\), expected \(n, 1\)",
    ),
    "a state of two outputs": (
        lambda: to_state({"W1": [[1], [1]], "b1": [[1], [1]]}),
        r"W1 has shape \(2, 1\), expected \(1, n\): the tutorial's network has one output",
    ),
    "a network with other parameters": (
        lambda: from_state(
            initial_state(
                serial(dense(2), batch_norm()), gradient_descent(learning_rate=1), (3,), key=Key(1)
            )
        ),
        "stage 1 of the network has NormParams, expected only parameters of dense",
    ),
    "images that are right": (
        lambda: print_mislabeled_images([b"a", b"b"], np.ones((12, 1)), [[1]], [[1]]),
        "no prediction differs from its label",
    ),
    "images that are not square": (
        lambda: print_mislabeled_images([b"a", b"b"], np.ones((13, 1)), [[1]], [[0]]),
        r"X has shape \(13, 1\), expected \(12, m\)",
    ),
    "setting an array": (
        lambda: initialize_parameters_deep([2, 1]).__setitem__("W1", np.ones((1, 2))),
        r"W1 cannot be set: .* records cannot be changed.*from_dict\(\{\*\*parameters",
    ),
    "deleting an array": (
        lambda: initialize_parameters_deep([2, 1]).__delitem__("W1"),
        "W1 cannot be deleted",
    ),
    "writing into an array": (
        lambda: initialize_parameters_deep([2, 1])["W1"].__setitem__((0, 0), 1.0),
        r"this array is read-only: .*make a new one, e\.g\. from_dict",
    ),
    "adding to an array in place": (
        lambda: initialize_parameters_deep([2, 1])["b1"].__iadd__(1.0),
        "this array is read-only",
    ),
    "a ufunc with out": (
        lambda: np.negative(np.ones((1, 2)), out=initialize_parameters_deep([2, 1])["W1"]),
        "this array is read-only",
    ),
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


def test_the_first_published_costs_of_two_layers(cats_directory):
    train, _ = (to_batch(part) for part in load_catvnoncat(cats_directory))
    trained = two_layer_model(train.X, train.Y, (12288, 7, 1), num_iterations=201)
    assert [round(cost, 6) for cost in trained.costs[::100]] == [0.693050, 0.646432, 0.632514]


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


def test_one_record_can_be_two_layers():
    layer = from_dict({"W1": np.diag([1.0, -2.0]), "b1": np.zeros((2, 1))}).layers[0]
    x = np.array([[1.0], [1.0]])
    AL, _ = L_model_forward(x, Parameters((layer, layer)))
    hidden = np.array([[1.0], [0.0]])
    assert np.allclose(AL, 1 / (1 + np.exp(-layer.W @ hidden)))


def test_parameters_without_layers_predict_nothing():
    with pytest.raises(BadInput, match="parameters have no layers"):
        predict(np.zeros((2, 1)), Parameters(()))
