import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Key,
    accuracy,
    classes_of,
    confusion_matrix,
    f1_score,
    log_loss,
    losses,
    mean_absolute_error,
    metrics,
    portable,
    precision,
    r_squared,
    recall,
    roc_auc,
    score,
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
    assert accuracy(taken, labels) == pytest.approx(1 / 3)  # only the first example is all right
    assert precision(taken, labels) == pytest.approx((1 + 1 / 2) / 2)
    assert recall(taken, labels) == pytest.approx((1 / 2 + 1) / 2)


def test_nothing_taken_or_nothing_there_is_0():
    nothing, everything = np.zeros((1, 3)), np.ones((1, 3))
    assert precision(nothing, everything) == recall(everything, nothing) == 0
    assert f1_score(nothing, nothing) == 0


def test_worked_numbers_of_probabilities():
    labels = np.array([[0.0, 0, 1, 1]])
    # Of four pairs the positive one is greater in three; in a tie it counts half.
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


def draws(seed, classes, m):
    key = Key(seed)
    labels = key.at("labels").integers(classes, (1, m)).astype(float)
    labels[0, :classes] = np.arange(classes)  # every class occurs
    p = key.uniform((classes, m)).round(1) + 0.05  # with ties
    return labels, p / p.sum(axis=0)


@given(st.integers(0, 50), st.integers(2, 4), st.integers(4, 30))
def test_scikit_learn_says_the_same(seed, classes, m):
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


def test_metrics_that_compare_two_classes_are_left_out_where_there_is_one():
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
    "one class": (lambda: roc_auc(np.ones((1, 2)), np.ones((1, 2))), "label 1 is all there is"),
    "no positive": (lambda: roc_auc(np.ones((1, 2)), np.zeros((1, 2))), "label 0 is all there"),
    "logits": (lambda: log_loss(3 * Y, Y), "probabilities lie outside 0 to 1"),
    "constant": (lambda: r_squared(Y * 0, Y * 0), "Y is constant"),
    "task": (lambda: score("two class", Y, Y), "there is no task 'two class': did you mean 'two"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()
