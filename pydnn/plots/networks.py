"""Plots of what is inside a network: weights and activations as pictures, and learning rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pydnn.checks import BadInput, expect_count
from pydnn.plots.figures import MAP, PLAIN, axes_of, matplotlib_module, shown, without_tex
from pydnn.records import FloatArray, readonly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_activations", "plot_schedule", "plot_weights"]

_MOST_PICTURES = 64
_LEAST_SIDE = 0.7  # inches


@without_tex()
def plot_weights(
    W: ArrayLike, *, image_shape: Sequence[int] | None = None, title: str = "Weights"
) -> Figure:
    """Plot the weights of a first layer, or the kernels of a convolution, as pictures.

    Args:
        W: The weights of a dense layer (n_out, n_in), or kernels (k_H, k_W, C, F).
        image_shape: The shape (H, W, C) or (H, W) of the images that a dense layer sees.
        title: The title of the plot.

    Returns:
        A matplotlib figure with a picture for each of the first 64 units or filters, in which gray
        is 0. Weights of three channels are colors; of other channels, the mean is drawn.

    Raises:
        BadInput: If the weights have another number of axes, or do not fit `image_shape`.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> figure = plot_weights(np.zeros((3, 48)), image_shape=(4, 4, 3))
        >>> sum(bool(axes.images) for axes in figure.axes)
        3
    """
    W = readonly(W)
    if W.ndim == 4:
        kernels = np.moveaxis(W, -1, 0)
    elif W.ndim == 2 and image_shape is not None and W.shape[1] == np.prod(image_shape):
        kernels = W.reshape(len(W), *image_shape)
    else:
        raise BadInput(
            f"W has shape {W.shape} and image_shape is {image_shape}, expected kernels "
            "(k_H, k_W, C, F), or weights (n_out, n_in) of images of n_in numbers: give "
            "image_shape=(H, W, C)."
        )
    what = "filter" if W.ndim == 4 else "unit"
    return _pictures(
        [_of_kernel(kernel) for kernel in kernels[:_MOST_PICTURES]], title, what, zero_is_gray=True
    )


def _of_kernel(kernel: FloatArray) -> FloatArray:
    """A kernel as colors around gray if it has three channels, else the mean of its channels."""
    if kernel.ndim == 2:
        return kernel
    if kernel.shape[2] != 3:
        mean: FloatArray = kernel.mean(axis=2)
        return mean
    most = float(np.abs(kernel).max()) or 1.0
    colors: FloatArray = 0.5 + kernel / (2 * most)
    return colors


@without_tex()
def plot_activations(A: ArrayLike, *, example: int = 0, title: str = "Activations") -> Figure:
    """Plot what a stage makes of one image: a picture for each channel.

    Args:
        A: The output of a stage (H, W, C, m), e.g. of a tensor from `nn.runs.look_into`.
        example: The number of the example.
        title: The title of the plot.

    Returns:
        A matplotlib figure with a picture for each of the first 64 channels.

    Raises:
        BadInput: If A does not have four axes, or there is no such example.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> figure = plot_activations(np.ones((5, 6, 3, 2)), example=1)
        >>> sum(bool(axes.images) for axes in figure.axes)
        3
    """
    A = readonly(A)
    if A.ndim != 4:
        raise BadInput(
            f"A has shape {A.shape}, expected (H, W, C, m): give the output of a stage for images."
        )
    hint = "examples are numbered from 0"
    place = expect_count("example", example, least=0, most=A.shape[3] - 1, hint=hint)
    channels = np.moveaxis(A[..., place], -1, 0)
    return _pictures(list(channels[:_MOST_PICTURES]), title, "channel")


def _pictures(
    pictures: Sequence[FloatArray], title: str, what: str, *, zero_is_gray: bool = False
) -> Figure:
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    side = max(_LEAST_SIDE, 6.0 / columns)
    figure_of = matplotlib_module("matplotlib.figure").Figure
    figure: Figure = figure_of(
        figsize=(columns * side, rows * side + 0.5), dpi=150, layout="constrained"
    )
    figure.suptitle(shown(title))
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for number, one in enumerate(axes.flat):
        one.set_axis_off()
        if number < len(pictures):
            most = float(np.abs(pictures[number]).max()) if zero_is_gray else None
            one.imshow(pictures[number], cmap=MAP, vmin=None if most is None else -most, vmax=most)
            one.set_title(f"{what} {number}", fontsize=6)
    return figure


@without_tex()
def plot_schedule(
    schedule: Callable[[int], float], steps: int, *, title: str = "Learning rate"
) -> Figure:
    """Plot the learning rate of each step.

    Args:
        schedule: A function from the number of a step to its rate, e.g.
            `nn.cosine_decay(0.1, steps=1000)`.
        steps: The number of steps.
        title: The title of the plot.

    Returns:
        A matplotlib figure.

    Raises:
        BadInput: If `steps` is not an integer of at least 1.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> figure = plot_schedule(lambda step: 0.1 / (1 + step), 4)
        >>> figure.axes[0].lines[0].get_ydata().round(3).tolist()
        [0.1, 0.05, 0.033, 0.025]
    """
    steps = expect_count("steps", steps, hint="give the number of steps")
    figure, axes = axes_of(title, x_label="iterations", y_label="learning rate")
    rates = [float(schedule(step)) for step in range(steps)]
    axes.plot(range(steps), rates, color=PLAIN, linewidth=1.4)
    if min(rates) >= 0:
        axes.set_ylim(bottom=0)
    return figure
