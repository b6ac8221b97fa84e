"""The examples of a job: what they must be before anything is built for them."""

from __future__ import annotations

from pydnn.checks import BadInput, expect_finite, expect_shape
from pydnn.jobs.standardization import expect_common_precision
from pydnn.records import Batch

__all__ = ["expect_data"]


def expect_data(data: Batch) -> None:
    """Refuse a data set that no training can start from.

    Raises:
        BadInput: If an entry of X or Y is not finite, naming its row and column; if Y or the
            weights do not have one column per example; or if there are no examples.
    """
    X, Y = data.X, data.Y
    expect_shape("X", X, ("n_x", "m"), hint="put examples in columns, e.g. pass X.T")
    m = X.shape[1]
    if X.size == 0:
        raise BadInput(f"X has shape {X.shape}, expected examples with features: give some data.")
    expect_shape("Y", Y, ("n_y", m), hint="give one column of labels per column of X")
    for name, array in (("X", X), ("Y", Y), ("weights", data.weights)):
        if array is not None:
            expect_common_precision(name, array)
    expect_finite("X", X)
    expect_finite("Y", Y)
    if data.weights is not None:
        expect_shape("weights", data.weights, (1, m), hint="give one weight per example")
