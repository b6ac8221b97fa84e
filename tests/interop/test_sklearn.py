import functools
import inspect
import pickle
import unittest
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pydnn as nn

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")

# ruff: noqa: E402
import joblib
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from pydnn import BadInput, Key
from pydnn.interop.sklearn import NetworkClassifier, NetworkRegressor
from pydnn.jobs import prepare
from pydnn.runs import Run, verify

# scikit-learn's own arithmetic may overflow and divide by 0, and so may its checks.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::sklearn.exceptions.UndefinedMetricWarning",
)


@pytest.fixture(autouse=True)
def numpys_own_arithmetic(arithmetic_warnings_are_errors):
    with np.errstate(all="warn", under="ignore"):
        yield


# All checks of scikit-learn, none left out

OPTIONS = {
    "as they come": {},
    "two hidden layers of tanh": {
        "hidden_layer_sizes": (50, 20),
        "activation": "tanh",
        "standardize": True,
        "alpha": 0.01,
    },
    "no hidden layer": {"hidden_layer_sizes": (), "learning_rate_init": 0.1},
    "logistic": {"activation": "logistic", "learning_rate_init": 0.01},
    "sgd with Nesterov's momentum": {"solver": "sgd", "learning_rate_init": 0.01},
    "sgd, its rate decaying": {
        "solver": "sgd",
        "learning_rate": "invscaling",
        "power_t": 0.1,
        "learning_rate_init": 0.05,
        "momentum": 0.0,
    },
    "standardized": {"standardize": True, "hidden_layer_sizes": 30},
    "a network as text": {"network": "dense(20), gelu(), layer_norm(), dense(10), silu()"},
    "an optimizer as text": {"optimizer": "adamw(learning_rate=0.005)", "alpha": 0.0},
    "portable": {"numerics": "portable", "hidden_layer_sizes": (10,), "learning_rate_init": 0.01},
    "a strong penalty, no shuffling": {"alpha": 0.01, "shuffle": False},
}
CLASSIFIERS = {
    **OPTIONS,
    "balanced": {"class_weight": "balanced"},
    "a schedule": {"optimizer": "momentum(learning_rate=cosine_decay(0.1, steps=200))"},
}
# Squares of numbers as large as those of some checks let gradient descent diverge, anybody's.
HUBER = {"loss": "huber(delta=1.0)"}
# Everything but the loss and the labels is the same code for both kinds.
REGRESSORS = {
    "Huber's loss": HUBER,
    "sgd with Nesterov's momentum": OPTIONS["sgd with Nesterov's momentum"] | HUBER,
} | {
    name: OPTIONS[name] for name in ("as they come", "no hidden layer", "standardized", "portable")
}
SETS = [
    *((NetworkClassifier, name, options) for name, options in CLASSIFIERS.items()),
    *((NetworkRegressor, name, options) for name, options in REGRESSORS.items()),
]


def check_all(estimator):
    """Every check that scikit-learn has for such an estimator; the number that passed."""
    passed = 0
    for instance, check in estimator_checks_generator(estimator):
        try:
            check(instance)
            passed += 1
        except unittest.SkipTest:  # for want of pandas, or as for MLPClassifier
            continue
    return passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [pytest.param(kind, options, id=f"{kind.__name__}, {name}") for kind, name, options in SETS],
)
def test_all_checks_of_scikit_learn_pass(kind, options):
    assert check_all(kind(**options)) >= 57


@pytest.mark.parametrize("kind", [NetworkClassifier, NetworkRegressor])
def test_many_checks_of_scikit_learn_pass_in_little_time(kind):
    """Those of the protocol, which fail first when something changes; all are above."""
    names = (
        "check_no_attributes_set_in_init",
        "check_estimators_unfitted",
        "check_estimators_pickle",
        "check_fit_idempotent",
        "check_n_features_in",
        "check_sample_weight_equivalence_on_dense_data",
        "check_classifiers_classes",
        "check_dict_unchanged",
    )
    estimator = kind(hidden_layer_sizes=(8,), max_iter=5)
    checks = [c for c in estimator_checks_generator(estimator) if c[1].func.__name__ in names]
    for instance, check in checks:
        check(instance)
    assert len(checks) >= 6


# One training, whatever the calls that it is made of


def blobs(m=40, classes=3, features=4):
    """Points around as many centers as there are classes, and their classes."""
    key = Key(5)
    y = key.at("y").permutation(m) % classes
    return key.at("X").normal((m, features)) + 2 * np.eye(classes, features)[y], y


X, Y = blobs()
NUMBERS = np.stack([X[:, 0] * X[:, 1], X[:, 2]], axis=1)
LABELS = (X[:, :3] > 0).astype(int)
WEIGHTS = 0.5 + Key(6).uniform(len(X))
QUICK = {"hidden_layer_sizes": (6,), "learning_rate_init": 0.02, "random_state": 1}
ENDLESS = {**QUICK, "n_iter_no_change": np.inf}


def bits(estimator):
    """All that a training comes to."""
    model = estimator.model_
    return (
        model.parameters.vector.tobytes(),
        model.statistics.vector.tobytes(),
        model.costs.tobytes(),
        model.recipe,
        model.iteration,
        estimator.n_iter_,
        estimator.t_,
        estimator.loss_curve_,
        estimator.validation_scores_,
        estimator.best_loss_,
    )


TARGETS = {"classes": Y, "two classes": Y > 0, "labels": LABELS, "numbers": NUMBERS}


@settings(max_examples=5)
@given(
    target=st.sampled_from(sorted(TARGETS)),
    first=st.integers(1, 3),
    more=st.integers(1, 3),
    options=st.fixed_dictionaries(
        {
            "batch_size": st.sampled_from(["auto", 7, 13]),
            "network": st.sampled_from(
                [None, "dense(5), batch_norm(), relu(), dropout(keep_prob=0.7)", ""]
            ),
            "solver": st.sampled_from(["adam", "sgd"]),
            "learning_rate": st.sampled_from(["constant", "invscaling"]),
            "early_stopping": st.booleans(),
            "standardize": st.booleans(),
            "shuffle": st.booleans(),
        }
    ),
    weighted=st.booleans(),
    in_csr=st.booleans(),
)
def test_a_fit_a_warm_start_and_partial_fits_are_one_training(
    target, first, more, options, weighted, in_csr
):
    if options["early_stopping"]:  # which then holds back enough examples to have a score
        options["validation_fraction"] = 0.2
    kind = NetworkRegressor if target == "numbers" else NetworkClassifier
    new = functools.partial(kind, **ENDLESS, **options)
    given = (sparse.csr_array(X) if in_csr else X, TARGETS[target], WEIGHTS if weighted else None)
    whole = new(max_iter=first + more).fit(*given)
    warm = new(max_iter=first, warm_start=True).fit(*given)
    warm.set_params(max_iter=more).fit(*given)
    single = new()
    for _ in range(first + more):
        classes = {} if target == "numbers" else {"classes": np.unique(TARGETS[target])}
        single.partial_fit(*given, **classes)
    assert bits(whole) == bits(warm) == bits(single)
    again = pickle.loads(pickle.dumps(warm)).fit(*given)
    assert bits(again) == bits(warm.fit(*given))


def test_twenty_epochs_at_once_and_one_by_one():
    new = functools.partial(NetworkClassifier, **QUICK, batch_size=9)
    whole = new(max_iter=20).fit(X, Y)
    warm = new(max_iter=10, warm_start=True).fit(X, Y).fit(X, Y)
    single = new()
    for _ in range(20):
        single.partial_fit(X, Y, classes=range(3))
    assert bits(whole) == bits(warm) == bits(single)
    assert whole.n_iter_ == len(whole.loss_curve_) == 20


def test_dense_and_sparse_examples_give_the_same_bits():
    thin = np.where(X > 1, X, 0.0)
    new = functools.partial(NetworkClassifier, batch_size=9, max_iter=3, **QUICK)
    dense = new().fit(thin, Y)
    for form in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
        assert bits(new().fit(form(thin), Y)) == bits(dense)
    np.testing.assert_array_equal(
        dense.predict_proba(sparse.csr_array(thin)), dense.predict_proba(thin)
    )


def test_a_sparse_matrix_is_made_dense_batch_by_batch(monkeypatch):
    thin = sparse.random_array((300, 50), density=0.1, rng=np.random.default_rng(1), format="csr")
    rows = []
    toarray = type(thin).toarray
    monkeypatch.setattr(
        type(thin), "toarray", lambda self, *a, **k: (rows.append(self.shape[0]), toarray(self))[1]
    )
    y = np.arange(300) % 2
    NetworkClassifier(batch_size=32, max_iter=2, standardize=True, class_weight="balanced").fit(
        thin, y
    )
    assert max(rows) == 32


def test_chunks_of_any_size_are_epochs_of_their_own():
    one = NetworkClassifier(**QUICK, batch_size=8)
    for start, stop in ((0, 10), (10, 40), (5, 13)):  # the last one is one batch
        one.partial_fit(X[start:stop], Y[start:stop], classes=[0, 1, 2])
    one.partial_fit(X[Y != 1], Y[Y != 1])
    assert (one.n_iter_, one.t_, one.model_.iteration) == (4, 48 + sum(Y != 1), 11)
    assert one.predict_proba(X).shape == (40, 3)


def test_early_stopping_goes_on_where_it_was():
    options = {**QUICK, "early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 3}
    whole = NetworkClassifier(**options, max_iter=200).fit(X, Y)
    assert whole.n_iter_ < 200
    warm = NetworkClassifier(**options, max_iter=4, warm_start=True)
    for _ in range(-(-whole.n_iter_ // 4) + 2):
        warm.fit(X, Y)
    assert warm.n_iter_ == whole.n_iter_
    assert warm.model_.parameters == whole.model_.parameters
    best = int(np.argmax(whole.validation_scores_))
    assert whole.model_.iteration == best + 1
    assert whole.best_validation_score_ == whole.validation_scores_[best]
    assert len(whole.validation_loss_curve_) == whole.n_iter_


# scikit-learn's own networks, as oracles

ORACLES = {
    "two classes": (MLPClassifier, NetworkClassifier, Y > 0, {}),
    "three classes": (MLPClassifier, NetworkClassifier, Y, {"activation": "tanh"}),
    "labels": (MLPClassifier, NetworkClassifier, LABELS, {"activation": "logistic"}),
    "numbers": (MLPRegressor, NetworkRegressor, NUMBERS, {"nesterovs_momentum": False}),
    "a number": (MLPRegressor, NetworkRegressor, NUMBERS[:, 0], {}),
    "a rate that decays": (
        MLPRegressor,
        NetworkRegressor,
        NUMBERS[:, 0],
        {"momentum": 0.0, "learning_rate": "invscaling"},
    ),
    "counts": (MLPRegressor, NetworkRegressor, np.abs(NUMBERS[:, 0]).round(), {"loss": "poisson"}),
}


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["all alike", "weighted"])
@pytest.mark.parametrize("batch_size", [40, 16])
@pytest.mark.parametrize(("theirs", "ours", "y", "options"), ORACLES.values(), ids=ORACLES)
def test_steps_are_those_of_scikit_learn(theirs, ours, y, options, batch_size, weights):
    decaying = "learning_rate" in options
    if weights is not None and (batch_size < 40 or decaying):
        pytest.skip("scikit-learn counts examples or weights of a batch, pydnn all weights")
    options = {
        "hidden_layer_sizes": (5, 4),
        "solver": "sgd",
        "learning_rate_init": 0.05,
        "alpha": 0.1,
        "batch_size": batch_size,
        "shuffle": False,
        "max_iter": 8,
        "tol": 0.0,
        "random_state": 1,
        **options,
    }
    if weights is not None and "sample_weight" not in inspect.signature(theirs.fit).parameters:
        pytest.skip("this scikit-learn's networks take no weights")
    if not options.keys() <= theirs().get_params().keys():
        pytest.skip("this scikit-learn's networks have one loss")
    given = {} if weights is None else {"sample_weight": weights}
    mine = ours(**options).fit(X, y, **given)
    start = prepare(mine.model_.recipe, mine.as_batch(X, y, weights)).state.parameters
    other = theirs(**options, warm_start=True)
    other.set_params(max_iter=1).fit(X, y)
    other.coefs_ = [start[f"{k}/W"].T.copy() for k in (0, 2, 4)]
    other.intercepts_ = [start[f"{k}/b"][:, 0].copy() for k in (0, 2, 4)]
    other.loss_curve_, other.t_ = [], 0
    other.set_params(max_iter=8).fit(X, y, **given)
    for a, b in zip(mine.coefs_ + mine.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    losses = np.subtract(mine.loss_curve_, other.loss_curve_)
    if options.get("loss") != "poisson" and np.ndim(y) == 1:  # a constant apart; outputs' means
        np.testing.assert_allclose(losses, 0, atol=1e-9)
    np.testing.assert_allclose(mine.predict(X), other.predict(X), atol=1e-9)
    assert (mine.n_layers_, mine.n_outputs_, mine.out_activation_, mine.t_) == (
        other.n_layers_,
        other.n_outputs_,
        other.out_activation_,
        other.t_,
    )


def test_arguments_and_defaults_are_those_of_scikit_learn():
    for theirs, ours in ((MLPClassifier, NetworkClassifier), (MLPRegressor, NetworkRegressor)):
        known = ours().get_params()
        for name, value in theirs().get_params().items():
            assert known[name] == value, name


# In the company of scikit-learn's other tools


def test_a_grid_search_over_texts():
    grid = {
        "network": ["dense(4), tanh()", "dense(8), relu()"],
        "optimizer": [None, "lion(learning_rate=0.01)"],
    }
    search = GridSearchCV(NetworkClassifier(**QUICK, max_iter=15), grid, cv=2, n_jobs=1).fit(X, Y)
    assert search.best_score_ > 0.5
    assert search.best_estimator_.get_params()["network"] in grid["network"]


def test_a_pipeline_of_columns():
    table = np.empty((40, 3), object)
    table[:, 0], table[:, 1] = X[:, 0], X[:, 1]
    table[:, 2] = np.array(["red", "green", "blue"])[Y]
    columns = ColumnTransformer([("n", StandardScaler(), [0, 1]), ("c", OneHotEncoder(), [2])])
    pipeline = Pipeline(
        [("columns", columns), ("network", NetworkClassifier(**QUICK, max_iter=60))]
    )
    assert pipeline.fit(table, Y).score(table, Y) > 0.9
    pipeline.set_params(network__hidden_layer_sizes=(3,))
    assert clone(pipeline).fit(table, Y)[-1].coefs_[0].shape == (5, 3)


def test_sample_weights_are_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        network = NetworkClassifier(**QUICK, max_iter=10)
        network.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        given = {"params": {"sample_weight": WEIGHTS}}
        first, second = (
            cross_validate(network, X, Y, cv=2, return_estimator=True, **options)
            for options in (given, {})
        )
    fitted, unweighted = (results["estimator"][0] for results in (first, second))
    assert fitted.model_.iteration == 10
    assert not np.array_equal(fitted.coefs_[0], unweighted.coefs_[0])


def test_probabilities_are_calibrated():
    calibrated = CalibratedClassifierCV(NetworkClassifier(**QUICK, max_iter=20), cv=2).fit(X, Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_several_labels_at_once():
    classifier = NetworkClassifier(**QUICK, max_iter=120).fit(X, LABELS)
    assert classifier.predict(X).shape == LABELS.shape
    assert classifier.score(X, LABELS) > 0.8
    assert bits(classifier) == bits(clone(classifier).fit(X, sparse.csr_matrix(LABELS)))
    with pytest.raises(BadInput, match=r"y has shape \(40, 2\), expected 3 columns of 0 and 1"):
        classifier.partial_fit(X, LABELS[:, :2])


def test_names_of_classes_and_probabilities():
    names = np.array(["owl", "cat", "dog"])[Y]
    classifier = NetworkClassifier(**QUICK, max_iter=60).fit(X, names)
    assert classifier.classes_.tolist() == ["cat", "dog", "owl"]
    assert classifier.model_.classes == ("cat", "dog", "owl")
    P = classifier.predict_proba(X)
    np.testing.assert_array_equal(classifier.classes_[P.argmax(axis=1)], classifier.predict(X))
    np.testing.assert_array_equal(np.log(P), classifier.predict_log_proba(X))
    two = NetworkClassifier(**QUICK, max_iter=5).fit(X, names == "owl").predict_proba(X)
    np.testing.assert_allclose(two.sum(axis=1), 1)


@pytest.mark.parametrize("store", ["pickle", "joblib", "memory-mapped"])
def test_a_stored_estimator_is_the_same(store, tmp_path):
    estimator = NetworkClassifier(**QUICK, max_iter=4, standardize=True, warm_start=True).fit(X, Y)
    if store == "pickle":
        again = pickle.loads(pickle.dumps(estimator))
    else:
        joblib.dump(estimator, tmp_path / "network.joblib")
        again = joblib.load(
            tmp_path / "network.joblib", mmap_mode="r" if store == "memory-mapped" else None
        )
    np.testing.assert_array_equal(again.predict_proba(X), estimator.predict_proba(X))
    assert bits(again.fit(X, Y)) == bits(estimator.fit(X, Y))


def test_a_pickle_of_a_newer_pydnn_is_refused():
    estimator = NetworkClassifier(**QUICK, max_iter=1).fit(X, Y)
    state = {**estimator.__getstate__(), "_pydnn_format": 99}
    with pytest.raises(BadInput, match="the pickle has format 99, expected at most 1"):
        NetworkClassifier().__setstate__(state)


# What MLPClassifier has not


def test_weights_of_classes_are_weights_of_their_examples():
    given = {0: 3.0, 2: 0.5}
    new = functools.partial(NetworkClassifier, **QUICK, max_iter=5, batch_size=16)
    ours = new(class_weight=given).fit(X, Y, sample_weight=WEIGHTS)
    theirs = new().fit(X, Y, sample_weight=WEIGHTS * np.array([3.0, 1.0, 0.5])[Y])
    np.testing.assert_array_equal(ours.coefs_[0], theirs.coefs_[0])
    assert ours.model_.recipe.class_weights == (3.0, 1.0, 0.5)
    in_csr = new(class_weight=given).fit(sparse.csr_array(X), Y, sample_weight=WEIGHTS)
    assert bits(in_csr) == bits(ours)


def test_the_ones_of_each_label_cost_as_much_as_its_zeros():
    labels = LABELS.copy()
    labels[:, 1] = 1  # of which nothing is to be learned
    balanced = NetworkClassifier(**QUICK, max_iter=2, class_weight="balanced").fit(X, labels)
    ones = LABELS.sum(axis=0)
    expected = [(40 - ones[0]) / ones[0], 1.0, (40 - ones[2]) / ones[2]]
    positive = balanced.model_.recipe.loss["sigmoid_cross_entropy"]["positive_weight"]
    np.testing.assert_allclose(positive, expected)


def test_examples_of_weight_zero_are_not_there():
    some = Y != 1
    options = {**QUICK, "max_iter": 5, "standardize": True, "batch_size": 9}
    ours = NetworkClassifier(**options).fit(X, Y, sample_weight=some.astype(float))
    theirs = NetworkClassifier(**options).fit(X[some], Y[some], sample_weight=np.ones(some.sum()))
    assert bits(ours) == bits(theirs)


def test_features_are_standardized_by_the_weights_of_examples():
    counts = np.arange(40) % 3 + 1
    ours = NetworkRegressor(**QUICK, max_iter=1, standardize=True).fit(X, NUMBERS, counts)
    theirs = StandardScaler().fit(X, sample_weight=counts)
    inputs = ours.model_.inputs.standardization
    np.testing.assert_allclose(inputs.mean[:, 0], theirs.mean_)
    np.testing.assert_allclose(inputs.deviation[:, 0], theirs.scale_)
    in_csr = NetworkRegressor(**QUICK, batch_size=9, max_iter=1, standardize=True)
    inputs = in_csr.fit(sparse.csr_array(X), NUMBERS, counts).model_.inputs.standardization
    np.testing.assert_allclose(inputs.deviation[:, 0], theirs.scale_)


def test_float32_stays_float32():
    classifier = NetworkClassifier(**QUICK, max_iter=3).fit(X.astype(np.float32), Y)
    assert classifier.model_.recipe.dtype == "float32"
    assert classifier.predict_proba(X).dtype == classifier.coefs_[0].dtype == np.float32


def test_examples_of_ones_own_for_validation():
    options = {**QUICK, "max_iter": 6}
    watched = NetworkClassifier(**options).fit(X[:30], Y[:30], X_val=X[30:], y_val=Y[30:])
    plain = NetworkClassifier(**options).fit(X[:30], Y[:30])
    np.testing.assert_array_equal(watched.coefs_[0], plain.coefs_[0])
    assert len(watched.validation_scores_) == 6
    assert watched.validation_scores_[-1] == plain.score(X[30:], Y[30:])
    regressor = NetworkRegressor(**options, early_stopping=True)
    regressor.fit(
        X[:30], NUMBERS[:30], X_val=X[30:], y_val=NUMBERS[30:], sample_weight_val=WEIGHTS[30:]
    )
    expected = regressor.score(X[30:], NUMBERS[30:], WEIGHTS[30:])
    assert regressor.best_validation_score_ == pytest.approx(expected)


def test_batches_leave_no_example_alone_where_that_has_no_spread():
    options = {
        **QUICK,
        "max_iter": 2,
        "batch_size": 13,
        "network": "dense(4), batch_norm(), relu()",
    }
    assert NetworkClassifier(**options).fit(X, Y).t_ == 2 * 39


def test_portable_arithmetic_of_a_recorded_run_is_replayed(tmp_path):
    options = {**QUICK, "max_iter": 3, "batch_size": 16, "class_weight": "balanced"}
    classifier = NetworkClassifier(**options, numerics="portable", record=tmp_path / "run")
    classifier.fit(X, Y)
    run = Run.open(tmp_path / "run", data=classifier.as_batch(X, Y))
    assert all(segment.mismatch is None for segment in verify(run))
    assert run.iterations == classifier.model_.iteration == 9
    again = nn.load_model(tmp_path / "run" / "model.h5")
    assert again.parameters == classifier.model_.parameters


def test_a_model_and_an_estimator_become_each_other(tmp_path):
    names = np.array(["owl", "cat", "dog"])[Y]
    options = {**QUICK, "max_iter": 40, "standardize": True, "network": "dense(5), elu()"}
    classifier = NetworkClassifier(**options).fit(X, names)
    classifier.model_.save(tmp_path / "model.h5")
    again = NetworkClassifier.from_model(nn.load_model(tmp_path / "model.h5"))
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), classifier.predict(X))
    assert again.classes_.tolist() == classifier.classes_.tolist()
    np.testing.assert_array_equal(classifier.model_.predict(X.T).T, classifier.predict_proba(X))
    assert clone(again).get_params()["network"] == "dense(5), elu()"
    before = again.coefs_[0].copy()
    again.partial_fit(X, names)  # from there on, with moments of its own
    assert 0 < np.abs(again.coefs_[0] - before).max() < 0.1
    regressor = NetworkRegressor(**QUICK, max_iter=3).fit(X, NUMBERS)
    same = NetworkRegressor.from_model(regressor.model_)
    np.testing.assert_array_equal(same.predict(X), regressor.predict(X))


def test_callbacks_see_each_epoch():
    callback = pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")
    seen = []

    class Watcher:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
            if context.task_name == "epoch":
                seen.append(fitted_estimator.score(X, y))
            return len(seen) == 7

    assert isinstance(Watcher(), callback.FitCallback)
    classifier = NetworkClassifier(**QUICK).set_callbacks(Watcher()).fit(X, Y)
    assert (classifier.n_iter_, len(seen)) == (7, 7)
    assert seen[-1] == classifier.score(X, Y)


def test_verbose_prints_a_line_for_each_epoch(capsys):
    NetworkClassifier(**QUICK, max_iter=2, verbose=True, early_stopping=True).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:20] for line in lines] == ["Iteration 1, loss = ", "Iteration 2, loss = "]
    assert "validation score" in lines[0]


def test_an_interrupted_training_keeps_its_whole_epochs(monkeypatch):
    classifier = NetworkClassifier(**QUICK, verbose=True)

    def interrupt(*words):
        if words[0].startswith("Iteration 3"):
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        classifier.fit(X, Y)
    assert classifier.n_iter_ == 3
    assert classifier.predict(X).shape == Y.shape


def test_a_seed_is_drawn_once_and_never_from_the_global_stream():
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    one, two = (NetworkClassifier(max_iter=1).fit(X, Y) for _ in range(2))
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
    assert one.model_.recipe.seed != two.model_.recipe.seed
    again = NetworkClassifier(max_iter=1, random_state=one.model_.recipe.seed).fit(X, Y)
    assert bits(again) == bits(one)
    drawn = NetworkClassifier(max_iter=1, random_state=np.random.RandomState(3)).fit(X, Y)
    assert bits(drawn) == bits(
        clone(drawn).set_params(random_state=drawn.model_.recipe.seed).fit(X, Y)
    )


def test_a_training_that_has_not_converged_says_so():
    with pytest.warns(ConvergenceWarning, match="2 epochs were taken"):
        NetworkClassifier(**QUICK, max_iter=2, n_iter_no_change=1).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NetworkClassifier(**ENDLESS, max_iter=2).fit(X, Y)


def fit(y=Y, **options):
    weights = options.pop("sample_weight", None)
    return NetworkClassifier(**{**QUICK, "max_iter": 2, **options}).fit(X, y, weights)


def partial(y, classes=(0, 1, 2)):
    return (
        NetworkClassifier(**QUICK).partial_fit(X[:5], Y[:5], classes=classes).partial_fit(X[:5], y)
    )


REFUSED = {
    "lbfgs": (lambda: fit(solver="lbfgs"), "solver is 'lbfgs', expected 'adam' or 'sgd'"),
    "an adaptive rate": (lambda: fit(learning_rate="adaptive"), "learning_rate is 'adaptive'"),
    "an unknown solver": (
        lambda: fit(solver="adm"),
        "there is no solver 'adm': did you mean 'adam'",
    ),
    "an unknown activation": (lambda: fit(activation="gelu"), "there is no activation 'gelu'"),
    "no epochs": (lambda: fit(max_iter=0), "max_iter is 0, expected an integer of at least 1"),
    "no units": (lambda: fit(hidden_layer_sizes=(3, 0)), "hidden_layer_sizes is 0"),
    "a batch of none": (lambda: fit(batch_size=0), "batch_size is 0"),
    "a negative penalty": (lambda: fit(alpha=-1), "alpha is -1"),
    "a network of nothing known": (lambda: fit(network="dence(3)"), "dence"),
    "a loss of numbers": (
        lambda: fit(loss="mean_squared"),
        "loss is 'mean_squared', which is for regression",
    ),
    "a loss of two classes": (
        lambda: fit(loss="sigmoid_cross_entropy()"),
        "which is for several labels",
    ),
    "one class": (lambda: fit(y=np.zeros(40)), "y has one class, 0.0, expected two or more"),
    "several columns of classes": (
        lambda: fit(y=np.stack([Y, Y], 1)),
        "y has several columns of classes",
    ),
    "a weight of no class": (
        lambda: fit(class_weight={7: 1.0}),
        "class_weight has 7, expected classes of y",
    ),
    "weights of no kind": (
        lambda: fit(class_weight="even"),
        "class_weight is 'even', expected 'balanced'",
    ),
    "a negative weight": (
        lambda: fit(sample_weight=-WEIGHTS),
        "Negative values in data passed to `sample_weight`",
    ),
    "a new class": (
        lambda: partial([0, 1, 2, 3, 1]),
        r"y has classes \[3\], expected those of the first call, \[0",
    ),
    "class weights of labels": (
        lambda: fit(y=LABELS, class_weight={0: 2.0}),
        "but y has several labels, expected 'balanced' or None",
    ),
    "too few to hold back": (
        lambda: NetworkRegressor(early_stopping=True).fit(X[:9], NUMBERS[:9]),
        "1 example",
    ),
    "a number that is not finite": (
        lambda: fit(solver="sgd", learning_rate_init=1e300, activation="identity"),
        "stopped being finite",
    ),
    "a warm start of another network": (
        lambda: fit(warm_start=True).set_params(hidden_layer_sizes=(9,)).fit(X, Y),
        "the network is not the one of the training that goes on",
    ),
    "a warm start of another optimizer": (
        lambda: fit(warm_start=True).set_params(solver="sgd").fit(X, Y),
        "the optimizer is not the one of the training that goes on",
    ),
    "a model of classes": (
        lambda: NetworkRegressor.from_model(fit().model_),
        "the model predicts classes",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    with pytest.raises(BadInput, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(ValueError, match=r"weight.*zero"):
        fit(sample_weight=0 * WEIGHTS)


def test_what_cannot_be_recorded_is_refused(tmp_path):
    options = {**QUICK, "max_iter": 1, "record": tmp_path / "run"}
    with pytest.raises(BadInput, match="X is a sparse matrix"):
        NetworkClassifier(**options, batch_size=9).fit(sparse.csr_array(X), Y)
    with pytest.raises(BadInput, match="examples have weights, by which features are standard"):
        NetworkClassifier(**options, standardize=True).fit(X, Y, WEIGHTS)
    warm = NetworkClassifier(**options, warm_start=True).fit(X, Y)
    with pytest.raises(BadInput, match="a warm start goes on with another training"):
        warm.fit(X, Y)
    with pytest.raises(BadInput, match="run"):
        clone(warm).fit(X, Y)  # there is such a run already


def test_nothing_is_predicted_before_a_fit():
    for name in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(NetworkClassifier(), name)(X)
    assert not hasattr(NetworkRegressor(), "coefs_")


def test_rows_become_images_or_sequences_by_a_reshape():
    X, y = Key(1).normal((40, 16)), np.arange(40) % 3
    for network in (
        "reshape(4, 4, 1), conv(3, 3), relu, flatten",
        "reshape(8, 2), gru(3, output='last')",
    ):
        model = NetworkClassifier(network=network, max_iter=2, random_state=1).fit(X, y)
        assert model.predict_proba(X).shape == (40, 3)
    with pytest.raises(BadInput, match=r"stage 0 \(conv\).*reshape\(4, 4, 1\)"):
        NetworkClassifier(network="conv(3, 3)", max_iter=2).fit(X, y)
    with pytest.raises(ValueError, match="dim 3"):
        NetworkClassifier(max_iter=2).fit(X.reshape(40, 4, 4), y)
