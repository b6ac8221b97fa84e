"""Plots for papers and notebooks, drawn with matplotlib (extra `plot`).

Each function takes plain data and returns a figure of matplotlib, which `save_plot` writes:

    nn.plots.save_plot(nn.plots.plot_costs(trained.costs, title="cats"), "costs.pdf")
"""

from pydnn.plots.classes import plot_calibration, plot_confusion, plot_decisions, plot_roc
from pydnn.plots.costs import plot_costs, plot_curves, plot_sweep
from pydnn.plots.figures import expect_plottable, save_plot
from pydnn.plots.networks import plot_activations, plot_schedule, plot_weights

__all__ = [
    "expect_plottable",
    "plot_activations",
    "plot_calibration",
    "plot_confusion",
    "plot_costs",
    "plot_curves",
    "plot_decisions",
    "plot_roc",
    "plot_schedule",
    "plot_sweep",
    "plot_weights",
    "save_plot",
]
