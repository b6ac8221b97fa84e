import re

import numpy as np
import pytest

import pydnn as nn
from pydnn.reports.judging import Judged, judgment, mistakes


def judged(P, Y, names, task="many classes"):
    P, Y = np.asarray(P, float), np.asarray(Y, float)
    batch = nn.Batch(np.zeros((1, P.shape[1])), Y)
    return Judged("test", task, batch, P, Y, names, P.shape[1])


def rows_of(markup):
    return re.findall(r"<tr><td>(\d+)</td><td>([^<]*)</td></tr>", "".join(markup))


def test_the_most_wrong_examples_come_first_with_the_probability_of_the_true_class():
    two = judged([[0.9, 0.6, 0.1, 0.2]], [[1, 0, 1, 0]], ("dog", "cat"), "two classes")
    assert two.of_true_class.tolist() == pytest.approx([0.9, 0.4, 0.1, 0.8])
    assert rows_of(mistakes(two, image_shape=None, vocabulary=None)) == [
        ("2", "predicted as dog, is cat (probability 0.10)"),
        ("1", "predicted as cat, is dog (probability 0.40)"),
    ]


def test_the_probability_of_the_true_class_of_several():
    P = [[0.5, 0.1], [0.3, 0.2], [0.2, 0.7]]
    assert judged(P, [[1, 2]], ("a", "b", "c")).of_true_class.tolist() == [0.3, 0.7]


def test_each_roc_curve_is_that_of_its_class():
    P = [[0.8, 0.1, 0.3], [0.1, 0.2, 0.3], [0.1, 0.7, 0.4]]
    chart = "".join(judgment(judged(P, [[0, 1, 2]], ("a", "b", "c"))))
    paths = re.findall(r'd="([^"]*)" class="line s(\d)"><title>([abc])</title>', chart)
    assert [name for *_, name in paths] == ["a", "b", "c"]
    # a is told apart without a mistake: the curve goes straight up, and then to the right.
    assert re.match(r"M62 208L62 10L", paths[0][0])
    assert not re.match(r"M62 208L62 10L", paths[2][0])


def test_no_mistake_is_said_so():
    right = judged([[0.9]], [[1]], ("no", "yes"), "two classes")
    assert "No example is wrong" in "".join(mistakes(right, image_shape=None, vocabulary=None))
