import numpy as np
import pytest

from pydnn.checks import BadInput
from pydnn.plots import plot_calibration, plot_confusion, plot_decisions, plot_roc, save_plot

pytest.importorskip("matplotlib")


def test_a_confusion_matrix_is_colored_by_the_shares_of_its_rows():
    axes = plot_confusion([[8, 2], [0, 0]], ["$a$", "b"]).axes[0]
    assert axes.images[0].get_array().tolist() == [[0.8, 0.2], [0, 0]]
    assert axes.get_xticklabels()[0].get_text() == r"\$a\$"  # not a formula


def test_large_confusion_matrices_have_no_numbers():
    assert not plot_confusion(np.eye(30)).axes[0].texts


def test_each_roc_curve_has_its_area_in_the_legend():
    scores = [0.1, 0.6, 0.4, 0.9], [False, False, True, True]
    axes = plot_roc({"a": scores, "b": scores}).axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "a, area 0.750", "b, area 0.750"
    ]  # fmt: skip


def test_calibration_has_the_number_of_predictions_at_each_point():
    axes = plot_calibration([0.2, 0.9, 0.95], [False, True, False], bins=2).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "2"]


def test_decisions_of_three_classes_have_two_boundaries(tmp_path):
    X = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])

    def nearest(points):
        return -((points[:, np.newaxis] - X[:, :, np.newaxis]) ** 2).sum(axis=0)

    figure = plot_decisions(nearest, X, [[0, 1, 2]], names=["a", "b", "c"])
    save_plot(figure, tmp_path / "plane.png")
    areas = figure.axes[0].collections[0]
    assert len(areas.levels) == 4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot_confusion([[1, 2]]), "counts"),
        (lambda: plot_roc({}), "no curves"),
        (lambda: plot_decisions(lambda X: X[:1], [[1.0]], [[0]]), "two features"),
        (lambda: plot_decisions(lambda X: X[:1], [[1.0], [1.0]], [[0, 1]]), "one class number"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, words):
    with pytest.raises(BadInput, match=words):
        call()
