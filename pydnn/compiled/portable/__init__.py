"""The compiled forms of `pydnn.numerics.portable`, which give the same bits.

Each file has the name of the file whose functions it compiles, and computes what is specified at
the head of that file. It has functions of single numbers, which the compiler copies into the loops
that call them; loops over arrays; and at its end forms of the functions of the NumPy path. A form
fills the arrays for its results and returns True, or returns False and leaves them to NumPy.

Forms emit no warnings of overflow and the like, and a result that is not a number may be another
NaN than NumPy's, whose bits depend on the order of operands. All other bits are equal.
"""

from __future__ import annotations

from pydnn.compiled.portable.elementary import of_each
from pydnn.compiled.portable.groups import sums_of_groups
from pydnn.compiled.portable.nearest import large_product, small_product
from pydnn.compiled.portable.products import by_tree
from pydnn.compiled.portable.slices import by_slices
from pydnn.compiled.portable.sums import sums_between, total_of, tree_sum

__all__ = [
    "by_slices",
    "by_tree",
    "large_product",
    "of_each",
    "small_product",
    "sums_between",
    "sums_of_groups",
    "total_of",
    "tree_sum",
]
