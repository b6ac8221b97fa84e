import numpy as np
import pytest

from pydnn.checks import BadInput
from pydnn.plots import plot_activations, plot_schedule, plot_weights

pytest.importorskip("matplotlib")


def images(figure):
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_weights_of_three_channels_are_colors_around_gray():
    W = np.zeros((2, 12))
    W[0, :3] = [1.0, -1.0, 0.0]
    [first, second] = images(plot_weights(W, image_shape=(2, 2, 3)))
    assert first[0, 0].tolist() == [1.0, 0.0, 0.5]
    assert (second == 0.5).all()


def test_kernels_of_many_channels_are_drawn_as_their_mean():
    kernels = np.arange(2 * 2 * 5 * 4, dtype=float).reshape(2, 2, 5, 4)
    drawn = images(plot_weights(kernels))
    assert len(drawn) == 4
    np.testing.assert_array_equal(drawn[1], kernels[..., 1].mean(axis=2))


@pytest.mark.slow
def test_no_more_than_64_pictures_are_drawn():
    assert len(images(plot_weights(np.zeros((100, 4)), image_shape=(2, 2)))) == 64


def test_activations_are_those_of_the_chosen_example():
    A = np.arange(2 * 3 * 4 * 5, dtype=float).reshape(2, 3, 4, 5)
    drawn = images(plot_activations(A, example=2))
    np.testing.assert_array_equal(drawn[3], A[:, :, 3, 2])


def test_a_schedule_is_called_for_each_step():
    line = plot_schedule(lambda step: float(step), 5).axes[0].lines[0]
    assert line.get_ydata().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot_weights(np.zeros((3, 5)), image_shape=(2, 2)), "image_shape"),
        (lambda: plot_weights(np.zeros(3)), "expected kernels"),
        (lambda: plot_activations(np.zeros((3, 5))), "expected"),
        (lambda: plot_activations(np.zeros((1, 1, 1, 2)), example=2), "example"),
        (lambda: plot_schedule(lambda step: 1.0, 0), "steps"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, words):
    with pytest.raises(BadInput, match=words):
        call()


def test_weights_of_zero_are_in_the_middle_of_the_map():
    [axes] = plot_weights([[1.0, 0.0, -0.5, 0.25]], image_shape=(2, 2)).axes
    assert axes.images[0].get_clim() == (-1, 1)
