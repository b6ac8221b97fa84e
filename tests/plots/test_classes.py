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


def test_decisions_of_three_classes_are_areas_that_touch_without_others_between(tmp_path):
    X = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])

    def nearest(points):
        return -((points[:, np.newaxis] - X[:, :, np.newaxis]) ** 2).sum(axis=0)

    figure = plot_decisions(nearest, X, [[0, 1, 2]], names=["a", "b", "c"])
    save_plot(figure, tmp_path / "plane.png")
    collections = figure.axes[0].collections
    areas, boundaries = collections[0:6:2], collections[1:6:2]
    assert [len(lines.levels) for lines in boundaries] == [1, 1, 1]
    for k, area in enumerate(areas):
        [path] = area.get_paths()
        others = np.delete(np.arange(3), k)
        assert path.contains_points(X.T)[k]
        assert not path.contains_points(X.T)[others].any()
    # Halfway between the classes 0 and 2 lies no area of class 1.
    assert not areas[1].get_paths()[0].contains_point((0, -0.02))


def test_a_model_that_predicts_one_class_everywhere_has_no_boundary():
    figure = plot_decisions(lambda X: np.ones((1, X.shape[1])), [[0.0, 1.0], [0.0, 1.0]], [[0, 1]])
    assert len(figure.axes[0].collections) == 3  # an area, and the examples of two classes


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
