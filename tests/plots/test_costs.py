import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pydnn import BadInput
from pydnn.plots import expect_plottable, plot_costs, plot_curves, plot_sweep, save_plot

pytest.importorskip("matplotlib")


def test_the_plot_shows_every_cost_with_the_learning_rate_as_its_title():
    figure = plot_costs([0.7, 0.5, 0.4], title="Learning rate = 0.0075")
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0.7], [1, 0.5], [2, 0.4]])
    assert axes.get_title() == "Learning rate = 0.0075"
    assert axes.get_xlabel() == "iterations"
    assert axes.get_ylabel().startswith("cost")


def test_measured_costs_have_curves_of_their_own_with_a_legend():
    measured = {"train": ([2, 4], [0.5, 0.3]), "$x$": ([4], [0.6])}
    (axes,) = plot_costs([0.7, 0.6, 0.5, 0.4], title="x", measured=measured).axes
    _, train, other = axes.lines
    np.testing.assert_array_equal(train.get_xydata(), [[2, 0.5], [4, 0.3]])
    assert other.get_marker() == "o"  # without which a single point would not show
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["each batch", "train", r"\$x\$"]


def test_the_settings_of_a_sweep_differ_on_gray_paper():
    rows = np.ones((2, 3))
    (axes,) = plot_sweep({"a": rows, "b": rows}, best=None, title="x", ylabel="y").axes
    styles = {line.get_linestyle() for line in axes.lines if line.get_linewidth() > 2}
    assert len(styles) == 2


def test_the_plot_of_a_sweep_shows_every_run_the_means_and_the_best():
    nan = np.nan
    costs = {
        "rate=1": np.array([[1.0, 0.5, 0.25], [2.0, 1.5, nan]]),
        "rate=2": np.array([[1.0, 1e9, nan]]),
    }
    figure = plot_sweep(costs, best=("rate=1", 0), title="2 seeds", ylabel="cost (nats)")
    (axes,) = figure.axes
    first, second, mean, third, other_mean, row, star = axes.lines
    np.testing.assert_array_equal(first.get_ydata(), costs["rate=1"][0])
    np.testing.assert_array_equal(second.get_ydata(), costs["rate=1"][1])
    np.testing.assert_array_equal(mean.get_xydata(), [[0, 1.5], [1, 1], [2, 0.25]])
    np.testing.assert_array_equal(other_mean.get_xydata(), [[0, 1], [1, 1e9]])
    np.testing.assert_array_equal(star.get_xydata(), [[2, 0.25]])
    np.testing.assert_array_equal(row.get_ydata(), costs["rate=1"][0])
    assert mean.get_linewidth() > 2 * third.get_linewidth()
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "mean of 2, rate=1", "mean of 1, rate=2", "best",
    ]  # fmt: skip
    assert axes.get_ylim() == (0, pytest.approx(4.2))  # a diverging run is cut off
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("iterations", "cost (nats)")


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_plot_is_saved_in_the_format_of_its_extension(tmp_path, suffix, magic):
    path = tmp_path / f"costs.{suffix}"
    save_plot(plot_costs([1.0, 0.5], title="x"), path)
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_costs([], title="x"), "there are no costs"),
        (
            lambda: plot_sweep({"": np.zeros((2, 0))}, best=None, title="x", ylabel="y"),
            "there are no costs",
        ),
        (lambda: expect_plottable(Path("costs")), "costs has no extension"),
        (
            lambda: expect_plottable(Path("costs.pgn")),
            "no picture format 'pgn': did you mean 'png'",
        ),
        (lambda: expect_plottable(Path("no-such/costs.png")), "no-such is not a directory"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


@pytest.mark.slow
def test_a_legend_of_nine_networks_keeps_the_size_of_the_plot_and_shows_what_differs():
    names = [f"network=serial(dense(64), relu, dense({n}), relu, dense(10))" for n in range(1, 10)]
    rows = np.ones((1, 5))
    few = plot_sweep({"": rows}, best=None, title="t", ylabel="cost")
    many = plot_sweep(dict.fromkeys(names, rows), best=None, title="t", ylabel="cost")
    sizes = []
    for figure in (few, many):
        figure.draw_without_rendering()
        box = figure.axes[0].get_window_extent()
        sizes.append((box.width, box.height))
    np.testing.assert_allclose(sizes[1], sizes[0], rtol=0.1)
    [legend] = many.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == [f"mean of 1, … dense({n}) …" for n in range(1, 10)]


@pytest.mark.parametrize("name", ["a$^_$.h5", "$", "a\x1b[2J\nb", "x" * 10_000, r"\frac{1}{2}$$"])
@pytest.mark.slow
def test_labels_are_drawn_as_text_not_as_formulas(name, tmp_path):
    rows = np.ones((1, 3))
    figure = plot_sweep({name: rows, "b": rows}, best=(name, 0), title=name, ylabel=name)
    save_plot(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


@pytest.mark.slow
def test_a_notebooks_backend_is_not_needed(tmp_path):
    program = "from pydnn.plots import *; import pathlib; path = pathlib.Path('c.png'); "
    program += "expect_plottable(path); save_plot(plot_costs([2, 1], title='t'), path)"
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | backend, cwd=tmp_path, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "c.png").is_file()


@pytest.mark.slow
def test_no_plot_needs_tex_whatever_the_settings_say(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setenv("PATH", "")  # so that no TeX is found
    with matplotlib.rc_context({"text.usetex": True}):
        costs = {"rate=1": np.array([[1.0, 0.5]]), "rate=2": np.array([[1.0, 0.25]])}
        swept = plot_sweep(costs, best=("rate=1", 0), title="2 rates", ylabel="cost")
        for figure in (plot_costs([0.7, 0.5], title="alone"), swept):
            save_plot(figure, tmp_path / "costs.png")
        assert matplotlib.rcParams["text.usetex"]


def test_several_runs_are_drawn_as_their_mean_with_a_band():
    figure = plot_curves({"a": [[1.0, np.nan], [3.0, 4.0]], "b": [1.0, 2.0]}, title="x")
    (axes,) = figure.axes
    first, second = axes.lines
    np.testing.assert_array_equal(first.get_ydata(), [2, 4])
    assert first.get_linestyle() != second.get_linestyle()
    assert len(axes.collections) == 1


@pytest.mark.parametrize(
    ("curves", "x", "words"),
    [
        ({}, None, "no finite numbers"),
        ({"a": [np.nan]}, None, "no finite"),
        ({"a": [1]}, [1, 2], "2"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(curves, x, words):
    with pytest.raises(BadInput, match=words):
        plot_curves(curves, title="x", x=x)


def test_a_band_goes_from_the_lowest_to_the_highest_run():
    [band] = plot_curves({"a": [[1.0, 2.0], [3.0, 4.0]]}, title="x").axes[0].collections
    edges = band.get_paths()[0].vertices
    assert {tuple(point) for point in edges} == {(0, 1), (0, 3), (1, 2), (1, 4)}
