import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn.reports.charts import (
    Series,
    aligned,
    bar_chart,
    histogram,
    line_chart,
    mean_series,
    number,
    table,
    ticks,
)


def paths(chart, style="line"):
    return re.findall(rf'<path d="([^"]*)" class="{style} s\d"', chart)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-2.0, "-2"), (0.5, "0.5000"), (123.456, "123.5"), (1e-7, "1.000e-07")],
)
def test_a_number_has_four_significant_digits(value, text):
    assert number(value) == text


def test_missing_and_infinite_numbers_have_words():
    assert [number(v) for v in (np.nan, np.inf, -np.inf)] == ["-", "inf", "-inf"]


@given(
    low=st.floats(-1e6, 1e6, allow_nan=False),
    span=st.floats(1e-3, 1e6, allow_nan=False),
)
def test_ticks_are_few_round_and_inside(low, span):
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-6 * span <= t <= low + span + 1e-6 * span for t in found)
    assert np.allclose(np.diff(found), np.diff(found)[:1])


def test_a_curve_goes_from_the_left_to_the_right_edge():
    chart = line_chart("Cost", [Series("train", [0, 10], [0.0, 2.0])])
    [path] = [p for p in re.findall(r' d="([^"]*)" class="line s0"', chart)]
    assert path == "M62 208L468 10"


def test_a_curve_has_a_gap_where_numbers_are_missing():
    chart = line_chart("Cost", [Series("a", range(4), [1.0, np.nan, 2.0, np.inf])])
    [path] = re.findall(r' d="([^"]*)" class="line s0"', chart)
    assert path.count("M") == 2


def test_a_long_curve_keeps_its_extremes_and_stays_small():
    y = np.zeros(100_000)
    y[31_415], y[27_182] = 6.0, -4.0
    chart = line_chart("Cost", [Series("a", np.arange(y.size), y)])
    [path] = re.findall(r' d="([^"]*)" class="line s0"', chart)
    heights = [float(p.split()[1]) for p in re.split("[ML]", path)[1:]]
    assert min(heights) == 10
    assert max(heights) == 208
    assert len(path) < 10_000


def test_the_words_of_a_chart_say_what_a_picture_shows():
    chart = line_chart("Cost", [Series("train", [0, 1, 2], [0.5, 0.125, 0.25])])
    assert "Cost. train: 0.5000 at iteration 0, 0.2500 at 2; lowest 0.1250 at 1" in chart


def test_numbers_of_zero_and_below_are_left_out_of_a_logarithmic_axis():
    chart = line_chart("Norm", [Series("a", range(4), [0.0, 1.0, 1000.0, -1.0])], log=True)
    [path] = re.findall(r' d="([^"]*)" class="line s0"', chart)
    assert path.count("L") == 1


def test_a_chart_without_finite_numbers_says_so():
    assert "no finite numbers" in line_chart("Cost", [Series("a", [0.0], [np.nan])])


def test_a_band_surrounds_its_curve():
    one = Series("mean", [0, 1], [1.0, 1.0], low=[0.5, 0.5], high=[1.5, 1.5])
    assert line_chart("Cost", [one]).count('class="band s0"') == 1


def test_a_histogram_has_a_bar_for_each_count_above_zero():
    assert bar_chart("W", [1, 0, 3], [0, 1, 2, 3]).count("<rect") == 2


def test_hostile_names_stay_text():
    name = "<script>alert(1)</script>"
    chart = line_chart(name, [Series(name, [0, 1], [0, 1]), Series("b", [0, 1], [0, 1])])
    assert "<script" not in chart + table([name], [[name]], caption=name)


def test_equal_numbers_give_equal_bytes():
    one = [Series("a", np.arange(5), np.arange(5) / 3)]
    assert line_chart("Cost", one) == line_chart("Cost", one)


def test_an_axis_of_positive_numbers_begins_at_zero():
    chart = line_chart("Accuracy", [Series("a", [0, 1], [0.5, 1.0])])
    [path] = re.findall(r' d="([^"]*)" class="line s0"', chart)
    assert path == "M62 109L468 10"


def test_each_curve_has_a_style_of_its_own_and_the_legend_shows_it():
    chart = line_chart("Cost", [Series("a", [0, 1], [1, 2]), Series("b", [0, 1], [2, 1])])
    assert chart.count('class="line s0"') == chart.count('class="line s1"') == 2


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.14841, 0.034629, 1.0], ["0.1484", "0.0346", "1.0000"]),
        ([0.0, 1.0], ["0.0000", "1.0000"]),
        ([123.456, 3.14159], ["123.5", "3.1"]),
        ([2.0, 40.0], ["2", "40"]),
        ([1e-9, 2e-9], ["1.000e-09", "2.000e-09"]),
        ([np.nan, np.inf, 0.5], ["-", "inf", "0.5000"]),
        ([], []),
    ],
)
def test_numbers_that_stand_below_each_other_have_equally_many_decimals(values, texts):
    assert aligned(values) == texts


def heights(chart):
    """The lowest and the highest tick of the vertical axis."""
    ticks = re.findall(r'class="end">([^<]*)<', chart)
    return float(ticks[0]), float(ticks[-1])


@pytest.mark.parametrize(
    ("y", "ends"),
    [
        ([0.1, 0.95], (0, 1)),
        ([0.81, 0.94], (0.8, 0.95)),  # far from 0, which would hide the differences
        ([0.0075, 0.0075], (0, 0.008)),
        ([-3.0, 5.0], (-4, 6)),
    ],
)
def test_an_axis_ends_at_round_numbers_around_the_curve(y, ends):
    assert heights(line_chart("x", [Series("a", [0, 1], y)])) == ends


def test_steps_begin_at_zero():
    chart = line_chart("x", [Series("a", [20, 40, 100], [1.0, 2.0, 3.0])])
    assert ">0</text>" in chart


def test_a_curve_that_falls_far_gets_a_logarithmic_axis():
    far, near = ([Series("a", range(4), [1.0, last, last, last])] for last in (1e-3, 0.5))
    heights = [paths(line_chart("Cost", one, log=None)) for one in (far, near)]
    assert heights[0] == paths(line_chart("Cost", far, log=True))
    assert heights[1] == paths(line_chart("Cost", near, log=False))


@given(
    values=st.lists(st.floats(width=64), max_size=20),
    bins=st.integers(1, 30),
)
def test_a_histogram_counts_all_finite_numbers_whatever_their_size(values, bins):
    (counts, none), edges = histogram([values, []], bins)
    assert counts.sum() == np.isfinite(values).sum()
    assert none.sum() == 0
    assert edges.shape == (bins + 1,)
    assert np.isfinite(edges).all()


def test_a_histogram_has_equal_intervals_over_all_arrays():
    counts, edges = histogram([[0.0, 1.0], [4.0, np.inf]], 4)
    assert edges.tolist() == [0, 1, 2, 3, 4]
    assert [c.tolist() for c in counts] == [[1, 1, 0, 0], [0, 0, 0, 1]]


def test_a_chart_of_the_largest_numbers_is_drawn():
    chart = line_chart("Cost", [Series("a", [0, 1, 2], [-1.7e308, 0.0, 1.7e308])], dots=False)
    [path] = re.findall(r' d="([^"]*)" class="line s0"', chart)
    assert path == "M62 208L265 109L468 10"


@pytest.mark.parametrize("value", [0.0, 1e20, -1e20, 1.7e308, -1.7976931348623157e308, 5e-324])
def test_a_curve_of_one_number_is_drawn_whatever_its_size(value):
    chart = line_chart("Cost", [Series("a", [0, 1], [value, value])])
    [path] = re.findall(r' d="([^"]*)" class="line s0"', chart)
    assert path.count("L") == 1


def test_a_single_step_stands_at_the_beginning():
    chart = line_chart("x", [Series("a", [0], [1.0])])
    assert re.findall(r'class="middle">([^<]*)<', chart)[0] == "0"
    assert 'cx="62"' in chart


def test_ticks_of_steps_are_whole_numbers():
    assert ticks(0, 11) == [0, 2.5, 5, 7.5, 10]
    assert ticks(0, 11, whole=True) == [0, 5, 10]
    chart = line_chart("x", [Series("a", [0, 11], [1.0, 2.0])])
    assert re.findall(r'class="middle">([^<]*)<', chart) == ["0", "5", "10"]


def test_both_ends_of_an_axis_have_ticks_where_rounding_asks_for_longer_steps():
    assert heights(line_chart("x", [Series("a", [0, 1], [0.3636, 0.5789])])) == (0.35, 0.6)


def test_ticks_of_small_numbers_differ():
    assert ticks(0, 1e-14) == [0, 2e-15, 4e-15, 6e-15, 8e-15, 1e-14]


@pytest.mark.parametrize("value", [0.01, -3.0, 1e15, 1e-300])
def test_a_curve_that_is_constant_but_for_its_last_bits(value):
    chart = line_chart("a", [Series("a", [0, 1, 2], [value, np.nextafter(value, 1e308), value])])
    assert chart.count('class="line') == 1


@pytest.mark.parametrize(("label", "shown"), [("accuracy", 0), ("share of all", 1)])
def test_the_vertical_axis_is_named_where_the_title_does_not_begin_with_its_name(label, shown):
    chart = line_chart("Accuracy of each run", [Series("a", [0, 1], [0.0, 1.0])], y_label=label)
    assert chart.count('y="-3"') == shown
    assert f'viewBox="0 {-14 * shown} 480 {250 + 14 * shown}"' in chart


def test_a_mean_has_the_steps_of_all_curves_and_a_band_from_the_lowest_to_the_highest():
    steps = np.arange(3)
    first, second = (steps, np.array([1.0, 2.0, 3.0])), (steps[1:], np.array([4.0, 9.0]))
    one = mean_series("a", [first, second])
    assert one.x.tolist() == [1, 2]
    assert [one.low.tolist(), one.y.tolist(), one.high.tolist()] == [[2, 3], [3, 6], [4, 9]]
    assert mean_series("a", [first]).low is None


def test_a_mean_of_the_largest_numbers_is_drawn():
    steps, huge = np.arange(2), np.full(2, 1.7e308)
    assert mean_series("a", [(steps, huge), (steps, huge)]).high.tolist() == huge.tolist()
