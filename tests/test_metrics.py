import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Key,
    accuracy,
    confusion_matrix,
    f1_score,
    log_loss,
    losses,
    metrics,
    portable,
    precision,
    r_squared,
    recall,
    roc_auc,
)
from pydnn.metrics import (
    METRICS,
    classes_of,
    mean_absolute_error,
    most_likely,
    score,
    score_by_class,
    tally,
)

# 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
Y = np.array([[1.0, 1, 1, 1, 1, 0, 0, 0, 0, 0]])
TAKEN = np.array([[1.0, 1, 1, 0, 0, 1, 0, 0, 0, 0]])
# Rows of the confusion matrix: [1 1 0], [0 2 0], [1 0 1].
Y3 = np.array([[0.0, 0, 1, 1, 2, 2]])
TAKEN3 = np.array([[0.0, 1, 1, 1, 0, 2]])


def test_worked_numbers_of_two_classes():
    np.testing.assert_array_equal(confusion_matrix(TAKEN, Y), [[4, 1], [2, 3]])
    assert accuracy(TAKEN, Y) == 0.7
    assert precision(TAKEN, Y) == 3 / 4
    assert recall(TAKEN, Y) == 3 / 5
    assert f1_score(TAKEN, Y) == pytest.approx(2 / 3)


def test_worked_numbers_of_three_classes_are_means_over_classes():
    np.testing.assert_array_equal(
        confusion_matrix(TAKEN3, Y3, classes=3), [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    )
    assert accuracy(TAKEN3, Y3) == pytest.approx(4 / 6)
    assert precision(TAKEN3, Y3, classes=3) == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert recall(TAKEN3, Y3, classes=3) == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert f1_score(TAKEN3, Y3, classes=3) == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)


def test_worked_numbers_of_several_labels():
    labels = np.array([[1.0, 0, 1], [0, 0, 1]])
    taken = np.array([[1.0, 0, 0], [0, 1, 1]])
    assert accuracy(taken, labels) == pytest.approx(
        1 / 3
    )  # all labels of the first example alone are right
    assert precision(taken, labels) == pytest.approx((1 + 1 / 2) / 2)
    assert recall(taken, labels) == pytest.approx((1 / 2 + 1) / 2)


def test_no_positive_prediction_or_no_positive_example_scores_0():
    nothing, everything = np.zeros((1, 3)), np.ones((1, 3))
    assert precision(nothing, everything) == recall(everything, nothing) == 0
    assert f1_score(nothing, nothing) == 0


def test_worked_numbers_of_probabilities():
    labels = np.array([[0.0, 0, 1, 1]])
    # The positive example has the higher number in three of four pairs; a tie counts half.
    assert roc_auc(np.array([[0.1, 0.4, 0.35, 0.8]]), labels) == 0.75
    assert roc_auc(np.array([[0.1, 0.4, 0.4, 0.8]]), labels) == 0.875
    p = np.array([[0.5, 0.25, 0.5, 1.0]])
    expected = -np.log([0.5, 0.75, 0.5, 1.0]).mean()
    assert log_loss(p, labels) == pytest.approx(expected)
    assert np.isfinite(log_loss(1 - labels, labels))
    three = np.array([[0.5, 0.2], [0.25, 0.3], [0.25, 0.5]])
    assert log_loss(three, np.array([[1.0, 2]])) == pytest.approx(-np.log([0.25, 0.5]).mean())


def test_worked_numbers_of_regression():
    y = np.array([[1.0, 2, 3, 6]])
    assert r_squared(y, y) == 1
    assert r_squared(np.full((1, 4), 3.0), y) == 0
    assert r_squared(y + 1, y) == pytest.approx(1 - 4 / 14)
    assert mean_absolute_error(y + np.array([[1, -1, 2, 0]]), y) == 1
    two = np.concatenate([y, 2 * y])
    assert r_squared(two + 1, two) == pytest.approx(((1 - 4 / 14) + (1 - 4 / 56)) / 2)


def test_classes_are_those_above_one_half():
    np.testing.assert_array_equal(classes_of(np.array([[0.5, 0.51, 0]])), [[0, 1, 0]])


def test_a_probability_that_rounds_to_1_costs_both_classes_the_same():
    predict = losses.sigmoid_cross_entropy().predict
    for dtype, expected in (("f8", 36.7368), ("f4", 16.6355)):
        Z = np.array([[40.0, 700.0]], dtype)
        of_zeros = log_loss(predict(Z), np.zeros((1, 2)))
        assert of_zeros == pytest.approx(expected, abs=1e-4)
        assert of_zeros == log_loss(predict(-Z), np.ones((1, 2)))
    several = np.array([[1.0, 0.5], [0.5, 0.0]])
    expected = -np.log([2.0**-53, 0.5, 0.5, 1]).mean()
    assert log_loss(several, [[0, 1], [1, 0]]) == pytest.approx(expected)


def test_many_classes_keep_probabilities_below_rounding():
    p = np.array([[1.0], [1e-300]])
    assert log_loss(p, [[1]]) == pytest.approx(300 * np.log(10))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.bool_])
def test_integers_and_truth_values_score_as_the_same_floats(dtype):
    y, t = Y.astype(dtype), TAKEN.astype(dtype)
    for metric in (
        accuracy, precision, recall, f1_score, confusion_matrix, roc_auc, log_loss, r_squared,
        mean_absolute_error,
    ):  # fmt: skip
        np.testing.assert_array_equal(metric(t, y), metric(TAKEN, Y))
    assert classes_of(t).dtype == most_likely(t).dtype == np.float64


def test_differences_of_small_integers_do_not_wrap():
    three, five = np.uint8([[3]]), np.uint8([[5]])
    assert mean_absolute_error(three, five) == 2
    assert r_squared(np.uint8([[16, 16]]), np.uint8([[0, 32]])) == 0
    assert mean_absolute_error(np.int8([[-128]]), np.int8([[127]])) == 255


def test_lists_are_accepted_as_arrays():
    assert accuracy([[0, 1]], [[0, 0]]) == 0.5
    assert r_squared([[1, 2]], [[1, 2]]) == 1
    assert score("regression", [[1, 2]], [[1, 3]])["mean_absolute_error"] == 0.5


def test_classes_that_occur_nowhere_do_not_count():
    both = [[0, 1, 1]], [[0, 1, 0]]
    for metric in (precision, recall, f1_score):
        assert metric([[0, 1]], [[0, 1]], classes=3) == 1
        assert metric(*both, classes=9) == metric(*both, classes=3)
    # Class 2 is predicted, so it counts although no example has it.
    assert precision([[0, 2]], [[0, 1]], classes=4) == pytest.approx(1 / 3)
    labels, taken = [[1, 0], [0, 0]], [[1, 1], [0, 0]]
    assert precision(taken, labels) == 0.5  # the second label occurs nowhere
    p = np.array([[0.7, 0.2, 0.3], [0.2, 0.7, 0.4], [0.1, 0.1, 0.3]])
    assert roc_auc(p, [[0, 1, 0]]) == 1
    assert roc_auc([[0.2, 0.6], [0.1, 0.1]], [[0, 1], [0, 0]]) == 1


@given(st.integers(0, 30), st.integers(3, 5), st.integers(1, 3))
def test_an_unused_output_changes_no_score(seed, classes, more):
    labels, p = draws(seed, classes, 20)
    wider = np.concatenate([p, np.zeros((more, 20))])
    assert score("many classes", wider, labels) == score("many classes", p, labels)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e-320, 1e150, 1e308])
def test_r_squared_does_not_depend_on_the_unit(scale):
    y = np.array([[0.25, 0.5, 1.0, 0.5]])
    t = np.array([[0.5, 0.5, 0.75, 0.5]])
    assert r_squared(t * scale, y * scale) == pytest.approx(r_squared(t, y), rel=1e-3)


def test_a_huge_error_has_an_r_squared_of_minus_infinity():
    assert r_squared([[1e300, 0]], [[1e-10, 2e-10]]) == -np.inf


def test_each_class_has_its_own_row():
    three = np.eye(4)[:, TAKEN3[0].astype(int)]  # a fourth class, which occurs nowhere
    rows = score_by_class("many classes", three, Y3)
    nan = pytest.approx(np.nan, nan_ok=True)
    assert rows == [
        {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "count": 2},
        {"precision": pytest.approx(2 / 3), "recall": 1, "f1": pytest.approx(4 / 5), "count": 2},
        {"precision": 1, "recall": 1 / 2, "f1": pytest.approx(2 / 3), "count": 2},
        {"precision": nan, "recall": nan, "f1": nan, "count": 0},
    ]
    two = score_by_class("two classes", TAKEN * 0.8 + 0.1, Y)
    assert [row["count"] for row in two] == [5, 5]
    assert [row["precision"] for row in two] == [4 / 6, 3 / 4]
    several = score_by_class("several labels", [[1, 0, 0], [0, 1, 1]], [[1, 0, 1], [0, 0, 1]])
    assert [row["recall"] for row in several] == [1 / 2, 1]


@given(st.integers(0, 30), st.integers(3, 5))
def test_macro_averages_are_means_of_the_rows(seed, classes):
    labels, p = draws(seed, classes, 20)
    rows, scores = (f("many classes", p, labels) for f in (score_by_class, score))
    for name in ("precision", "recall", "f1"):
        assert scores[name] == pytest.approx(np.nanmean([row[name] for row in rows]))
        assert metrics.title("many classes", name) == f"macro {name}"
    assert metrics.title("two classes", "precision") == "precision"
    assert metrics.title("many classes", "accuracy") == "accuracy"


def draws(seed, classes, m):
    key = Key(seed)
    labels = key.at("labels").integers(classes, (1, m)).astype(float)
    labels[0, :classes] = np.arange(classes)  # every class occurs
    p = key.uniform((classes, m)).round(1) + 0.05  # with ties
    return labels, p / p.sum(axis=0)


@given(st.integers(0, 50), st.integers(2, 4), st.integers(4, 30))
def test_scikit_learn_gives_the_same_scores(seed, classes, m):
    sk = pytest.importorskip("sklearn.metrics")
    labels, p = draws(seed, classes, m)
    taken = p.argmax(axis=0)[np.newaxis].astype(float)
    y, t = labels[0], taken[0]
    options = {"average": "binary" if classes == 2 else "macro", "zero_division": 0}
    pairs = [
        (accuracy(taken, labels), sk.accuracy_score(y, t)),
        (precision(taken, labels, classes=classes), sk.precision_score(y, t, **options)),
        (recall(taken, labels, classes=classes), sk.recall_score(y, t, **options)),
        (f1_score(taken, labels, classes=classes), sk.f1_score(y, t, **options)),
        (log_loss(p, labels), sk.log_loss(y, p.T)),
    ]
    if classes == 2:
        pairs.append((roc_auc(p[1:], labels), sk.roc_auc_score(y, p[1])))
        pairs.append((log_loss(p[1:], labels), sk.log_loss(y, p[1])))
    else:
        pairs.append((roc_auc(p, labels), sk.roc_auc_score(y, p.T, multi_class="ovr")))
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, rel=1e-12)
    matrix = confusion_matrix(taken, labels, classes=classes)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(y, t, labels=range(classes)))
    assert r_squared(p, p[::-1]) == pytest.approx(sk.r2_score(p[::-1].T, p.T), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("task", losses.TASKS)
def test_portable_arithmetic_gives_the_same_scores_to_the_last_digits(task):
    labels, p = draws(5, 4, 50)
    pairs = {
        "two classes": (p[:1], (labels > 1).astype(float)),
        "many classes": (p, labels),
        "several labels": (p[:3], np.concatenate([labels == i for i in range(3)]).astype(float)),
        "regression": (p, p[::-1] * 2 + 1),
    }[task]
    found = score(task, *pairs, numerics=portable)
    assert found == pytest.approx(score(task, *pairs), rel=1e-13)
    assert len(found) == len(metrics.METRICS[task])


def test_every_task_has_its_metrics():
    assert tuple(metrics.METRICS) == losses.TASKS
    p = np.array([[0.9, 0.8, 0.2, 0.4]])
    y = np.array([[1.0, 1, 0, 1]])
    assert score("two classes", p, y) == pytest.approx(
        {
            "accuracy": 0.75, "precision": 1, "recall": 2 / 3, "f1": 0.8, "roc_auc": 1,
            "log_loss": -np.log([0.9, 0.8, 0.8, 0.4]).mean(),
        }
    )  # fmt: skip
    three = np.eye(3)[:, [0, 1, 2, 2]] * 0.7 + 0.1
    by_number = score("many classes", three, np.array([[0.0, 1, 2, 1]]))
    assert by_number["accuracy"] == 0.75
    assert score("many classes", three, np.eye(3)[:, [0, 1, 2, 1]]) == by_number
    labels = score("several labels", np.concatenate([p, p]), np.concatenate([y, y]))
    assert labels["accuracy"] == 0.75
    assert score("regression", y, y) == {"r_squared": 1, "mean_absolute_error": 0}


def test_metrics_that_compare_two_classes_are_left_out_for_one_class():
    found = score("two classes", np.array([[0.9, 0.8]]), np.ones((1, 2)))
    assert "roc_auc" not in found
    assert found["accuracy"] == 1
    assert "r_squared" not in score("regression", np.ones((1, 1)), np.ones((1, 1)))


NOTHING = np.zeros((1, 0))
REFUSED = {
    "shapes": (
        lambda: accuracy(TAKEN[:, :3], Y),
        r"predictions has shape \(1, 3\), expected \(1, 10\): give one prediction per label",
    ),
    "nothing": (lambda: accuracy(NOTHING, NOTHING), "there are no labels, expected one or more"),
    "class outside": (
        lambda: confusion_matrix(TAKEN3, Y3),
        "predictions|labels hold 2 in column 4, expected a",
    ),
    "one class": (lambda: roc_auc(np.ones((1, 2)), np.ones((1, 2))), "row 0 has only label 1"),
    "no positive": (lambda: roc_auc(np.ones((1, 2)), np.zeros((1, 2))), "row 0 has only label 0"),
    "constant labels 0.1": (
        lambda: r_squared([[0.2] * 3], [[0.1] * 3]),
        "Y is constant in row 0, expected labels",
    ),
    "constant float32": (
        lambda: r_squared(np.ones((1, 1000), "f4"), np.full((1, 1000), 14.62, "f4")),
        "constant",
    ),
    "one constant row": (
        lambda: r_squared(np.ones((2, 3)), [[1, 2, 3], [0.7] * 3]),
        "Y is constant in row 1",
    ),
    "nan among scores": (lambda: roc_auc([[0.2, np.nan]], [[0, 1]]), "nan in row 0, column 1"),
    "nan first": (lambda: roc_auc([[np.nan, 0.2]], [[0, 1]]), "holds nan in row 0, column 0"),
    "class of nan": (lambda: classes_of([[np.nan]]), "holds nan in row 0, column 0"),
    "most likely of nan": (lambda: most_likely([[0.9], [np.nan]]), "nan in row 1, column 0"),
    "inf in regression": (lambda: mean_absolute_error([[np.inf]], [[1]]), "predictions holds inf"),
    "nan label": (lambda: accuracy([[1]], [[np.nan]]), "Y holds nan in row 0, column 0"),
    "nan in log_loss": (lambda: log_loss([[0.5, np.nan]], [[0, 1]]), "nan in row 0, column 1"),
    "nan in score": (lambda: score("regression", Y * np.nan, Y), "predictions holds nan"),
    "label -1": (lambda: log_loss([[0.5, 0.5]], [[-1, 1]]), "labels hold -1 in column 0|Y hold"),
    "label 2 of two": (lambda: roc_auc([[0.5, 0.6]], [[0, 2]]), "hold 2 in column 1.* 0 to 1"),
    "label 1.5": (
        lambda: accuracy([[1]], [[1.5]]),
        "labels hold 1.5 in column 0, expected a whole",
    ),
    "probabilities for classes": (
        lambda: accuracy([[0.7]], [[1]]),
        "hold 0.7 in column 0.*apply classes_of or most_likely",
    ),
    "classes that nobody counted": (
        lambda: confusion_matrix([[1, 0, 2]], [[1, 0, 2]]),
        "hold 2 in column 2, expected a whole number from 0 to 1: give classes=3",
    ),
    "classes from 1 on": (
        lambda: confusion_matrix([[1, 2, 3]], [[1, 2, 3]], classes=3),
        "hold 3 in column 2.*number the classes from 0, so subtract 1",
    ),
    "probabilities of several classes": (
        lambda: confusion_matrix(np.eye(3), [[0, 1, 2]], classes=3),
        "apply most_likely to the probabilities of several classes",
    ),
    "label 2 of several": (
        lambda: precision([[0, 1], [1, 1]], [[0, 1], [2, 1]]),
        "labels hold 2 in row 1, column 0",
    ),
    "no one-hot column": (
        lambda: score("many classes", np.eye(3), np.eye(3) * [1, 0, 1]),
        "column 1 of Y has 0 ones",
    ),
    "one dimension": (lambda: accuracy(Y[0], Y[0]), r"shape \(10,\), .*y\[np.newaxis\]"),
    "a number": (lambda: log_loss(0.5, 1), r"has shape \(\), expected"),
    "texts": (lambda: accuracy([["cat"]], [["cat"]]), "expected numbers"),
    "masked": (
        lambda: mean_absolute_error(np.ma.masked_equal([[1.0, -999]], -999), [[1, 2]]),
        "mask",
    ),
    "classes of regression": (lambda: score_by_class("regression", Y, Y), "has no classes"),
    "logits": (lambda: log_loss(3 * Y, Y), "probabilities lie outside 0 to 1"),
    "constant": (lambda: r_squared(Y * 0, Y * 0), "Y is constant"),
    "task": (lambda: score("two class", Y, Y), "there is no task 'two class': did you mean 'two"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_every_metric_has_a_direction():
    names = {name for table in metrics.METRICS.values() for name in table}
    lower = {name for name in names if not metrics.higher_is_better(f"validation {name}")}
    assert lower == {"log_loss", "mean_absolute_error"}
    assert not metrics.higher_is_better("train cost")
    assert not metrics.higher_is_better("gradient_norm")
    with pytest.raises(BadInput, match="'validation luck' may be better when it is higher or"):
        metrics.higher_is_better("validation luck")


# Tallies


@pytest.mark.parametrize("task", METRICS)
@pytest.mark.parametrize("parts", [1, 3])
def test_a_tally_of_parts_has_the_metrics_of_all_examples(task, parts):
    rng, m = np.random.default_rng(parts), 120
    n = {"two classes": 1, "many classes": 4}.get(task, 3)
    Z = rng.normal(size=(n, m)) * 3
    P = 1 / (1 + np.exp(-Z))
    Y = rng.integers(0, 2, (n, m)).astype(float)
    if task == "many classes":
        P, Y = np.exp(Z) / np.exp(Z).sum(axis=0), rng.integers(0, n, (1, m)).astype(float)
    if task == "regression":
        P, Y = Z, Z + rng.normal(size=(n, m)) + [[1e3], [0.0], [-1e-3]]
    known, size = tally(task), -(-m // parts)
    for start in range(0, m, size):
        known = known.plus(P[:, start : start + size], Y[:, start : start + size])
    expected, scores = score(task, P, Y), known.scores()
    assert list(scores) == list(expected)
    assert known.count == m
    for name, value in expected.items():
        exact = name in ("accuracy", "precision", "recall", "f1")
        close = pytest.approx(value, abs=2e-3 if name == "roc_auc" else 0, rel=1e-12)
        assert scores[name] == (value if exact else close)
    if task == "regression":
        with pytest.raises(BadInput, match="no classes"):
            known.by_class()
        assert known.confusion() == []
        return
    assert known.by_class() == score_by_class(task, P, Y)
    if task == "many classes":
        assert known.confusion() == confusion_matrix(most_likely(P), Y, classes=n).tolist()


def test_a_tally_compares_probabilities_near_0_and_near_1_finely():
    P = np.array([[1e-9, 2e-9, 0.25, 0.5, 0.75, 1 - 2e-9, 1 - 1e-9, 1.0]])
    Y = np.array([[0.0, 1, 0, 1, 0, 1, 0, 1]])
    assert (
        tally("two classes").plus(P, Y).scores()["roc_auc"] == score("two classes", P, Y)["roc_auc"]
    )


def test_a_tally_leaves_out_what_equal_labels_do_not_define():
    ones = np.ones((1, 3))
    assert "roc_auc" not in tally("two classes").plus(ones / 2, ones).scores()
    both = tally("regression").plus(ones / 2, ones)
    assert list(both.scores()) == ["mean_absolute_error"]
    assert "r_squared" in both.plus(ones / 2, 2 * ones).scores()
