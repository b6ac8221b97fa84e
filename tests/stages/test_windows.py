"""Check where windows lie, against lists written out place by place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Key,
    average_pool,
    conv,
    depthwise_conv,
    max_pool,
    transposed_conv,
)
from pydnn.stages.base import EVALUATION
from pydnn.stages.windows import WindowedAxis, Windows


def along(length, size, **options):
    [axis] = Windows.of(size, **options).over((length, 1))
    return axis


@pytest.mark.parametrize(
    ("axis", "before", "after", "count"),
    [
        (along(5, 3), 0, 0, 3),
        (along(5, 2, stride=2), 0, 0, 2),
        (along(5, 3, padding="same"), 1, 1, 5),
        (along(5, 2, padding="same"), 0, 1, 5),  # the odd one comes last
        (along(5, 2, stride=2, padding="same"), 0, 1, 3),
        (along(5, 1, stride=2, padding="same"), 0, 0, 3),  # nothing is cut off either
        (along(7, 3, dilation=2, padding="same"), 2, 2, 7),
        (along(5, 3, padding=4), 4, 4, 11),
        (along(5, 3, padding=[2]), 2, 2, 7),
        (along(5, 3, padding=[(0, 2)]), 0, 2, 5),
    ],
)
def test_padding_and_number_of_windows(axis, before, after, count):
    assert (axis.before, axis.after, axis.count) == (before, after, count)


def test_options_may_differ_between_the_axes_of_an_image():
    rows, columns = Windows.of((3, 1), stride=(2, 1), padding=[1, (0, 2)]).over((7, 4, 5))
    assert rows == WindowedAxis(7, 3, 2, 1, 1, 1)
    assert columns == WindowedAxis(4, 1, 1, 1, 0, 2)
    assert (rows.count, columns.count) == (4, 6)


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 6)] * 4, *[st.integers(0, 7)] * 2)
def test_places_of_windows_are_those_of_the_definition(
    length, size, stride, dilation, before, after
):
    axis = WindowedAxis(length, size, stride, dilation, before, after)
    for offset in range(size):
        inside = [
            (window, window * stride + offset * dilation - before)
            for window in range(axis.count)
            if 0 <= window * stride + offset * dilation - before < length
        ]
        for first, stop in ((0, axis.count), (1, axis.count - 1)):
            expected = [(window, place) for window, place in inside if first <= window < stop]
            windows, places = axis.places(offset, first, stop) or (slice(0), slice(0))
            assert list(range(axis.count))[windows] == [window for window, _ in expected]
            assert list(range(length))[places] == [place for _, place in expected]


REFUSED = {
    "no size": (lambda: Windows.of(0), "size is 0, expected an integer of at least 1"),
    "a truth value": (lambda: Windows.of(3, stride=True), "stride is True, expected an integer"),
    "a float": (lambda: Windows.of((3, 2.0)), "size is 2.0, expected an integer"),
    "a text": (lambda: Windows.of("3"), "size is '3', expected an integer"),
    "three axes": (lambda: Windows.of((3, 3, 3)), "size has 3 entries, expected 1 or 2"),
    "negative padding": (
        lambda: Windows.of(3, padding=-1),
        "padding is -1, expected an integer of at least 0",
    ),
    "another word": (lambda: Windows.of(3, padding="full"), "padding is 'full'.* give \"valid\""),
    "padding of three axes": (lambda: Windows.of(3, padding=[1, 2, 3]), "padding has 3 entries"),
    "three sides": (lambda: Windows.of(3, padding=[(1, 2, 3)]), r"\(1, 2, 3\) for one axis"),
    "unequal lists": (lambda: Windows.of((3, 3), stride=[2]), "size has 2, stride has 1"),
    "a flat photo": (lambda: Windows.of(3).over((12288,)), r"e\.g\. reshape\(64, 64, 3\)"),
    "a flat digit": (lambda: Windows.of(3).over((784,)), r"e\.g\. reshape\(28, 28, 1\)"),
    "a flat sequence": (lambda: Windows.of(3).over((40,)), r"e\.g\. reshape\(40, 1\)"),
    "a film": (lambda: Windows.of(3).over((9, 9, 9, 3)), r"expected images \(H, W, C\)"),
    "no channels": (lambda: Windows.of((3, 3)).over((28, 28)), r"put reshape\(28, 28, 1\) before"),
    "one axis for an image": (
        lambda: Windows.of([3]).over((8, 8, 1)),
        "size has 1 entries .* expected one for each of 2 axes: give one number for all axes",
    ),
    "too large": (lambda: along(4, 3, dilation=2), "reaches over 5 places of axis 0.* have 4"),
    "too large, padded": (lambda: along(2, 6, padding=1), r"have 2 and 1 \+ 1 of padding"),
    "a huge size": (lambda: along(4, 10**12), "reaches over 1000000000000 places"),
    "huge padding": (
        lambda: Windows.of(3, padding=10**12).over((4, 4, 3)),
        "more than any machine holds",
    ),
    "an endless number": (lambda: Windows.of(3, padding=10**400), "an integer of 1,329 bits"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(call, message):
    with pytest.raises(BadInput, match=message):
        call()


FAR = {"stride": 10**9, "padding": [(10**9, 10**9)]}
HUGE = {
    "conv": conv(1, 3, **FAR),
    "conv, dilated": conv(1, 2, dilation=10**9, **FAR),
    "depthwise_conv": depthwise_conv(3, **FAR),
    "transposed_conv": transposed_conv(1, 2, dilation=2 * 10**9, padding=[(10**9, 10**9)]),
    "max_pool": max_pool(10**9 + 1, **FAR),
    "average_pool": average_pool(10**9 + 1, **FAR),
}


@pytest.mark.parametrize("stage", HUGE.values(), ids=HUGE)
def test_huge_padding_is_refused_however_small_the_output(stage):
    message = r"have \d{10} places with their padding, .* give less padding\.$"
    with pytest.raises(BadInput, match=message):
        stage.init(Key(0), (4, 3))
    if stage.name in ("max_pool", "average_pool"):  # others need parameters, which `init` makes
        with pytest.raises(BadInput, match=message):
            stage.forward((), np.ones((4, 3, 2)), EVALUATION)


def test_padding_of_a_few_times_a_large_example_is_taken():
    assert along(1 << 24, 3, padding=1 << 24).count == 3 * (1 << 24) - 2
    assert along(2, 3, padding=10**6).count == 2 * 10**6  # and of any small example
    with pytest.raises(BadInput, match="expected at most 134217728"):
        along(1 << 24, 3, padding=1 << 26)
