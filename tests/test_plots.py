from pathlib import Path

import numpy as np
import pytest

from pydnn import BadInput
from pydnn.plots import expect_plottable, plot_costs, save_plot

pytest.importorskip("matplotlib")


def test_the_plot_shows_every_cost_with_the_learning_rate_as_its_title():
    figure = plot_costs([0.7, 0.5, 0.4], title="Learning rate = 0.0075")
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0.7], [1, 0.5], [2, 0.4]])
    assert axes.get_title() == "Learning rate = 0.0075"
    assert axes.get_xlabel() == "iterations"
    assert axes.get_ylabel().startswith("cost")


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_plot_is_saved_in_the_format_of_its_ending(tmp_path, suffix, magic):
    path = tmp_path / f"costs.{suffix}"
    save_plot(plot_costs([1.0, 0.5], title="x"), path)
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_costs([], title="x"), "there are no costs"),
        (lambda: expect_plottable(Path("costs")), "costs has no ending that tells its format"),
        (
            lambda: expect_plottable(Path("costs.pgn")),
            "no picture format 'pgn': did you mean 'png'",
        ),
        (lambda: expect_plottable(Path("no-such/costs.png")), "no-such is no directory"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()
