import numpy as np

from pydnn.parameters import NO_PARAMS, pack
from pydnn.stages.dense import DenseParams
from pydnn.sweeps.stacked_layout import rows_of, stacked_layout, vector_of

TREE = (
    DenseParams([[1, 2], [3, 4]], [[5], [6]]),
    NO_PARAMS,
    (NO_PARAMS, DenseParams([[7, 8]], [[9]])),
)


def test_every_array_of_a_stack_has_a_first_axis_for_its_trainings():
    packed = pack(TREE)
    rows = np.stack([packed.vector, packed.vector + 10, packed.vector + 20])
    stacked = stacked_layout(packed.layout, 3).packed(vector_of(packed.layout, rows))
    np.testing.assert_array_equal(stacked["2/1/W"], [[[7, 8]], [[17, 18]], [[27, 28]]])
    assert stacked.tree[0].W.shape == (3, 2, 2)
    assert isinstance(stacked.tree[2][1], DenseParams)
    np.testing.assert_array_equal(rows_of(packed.layout, stacked.vector), rows)
    nothing = pack(NO_PARAMS).layout
    assert vector_of(nothing, rows_of(nothing, np.zeros(0))).shape == (0,)
