"""The arithmetic under every stage: all that IEEE 754 does not round exactly goes through here.

A tenant is one `Numerics` record of functions, and is chosen in the recipe. Elementwise
`+ - * /`, `sqrt`, comparisons and maximum need no detour: NumPy rounds them exactly.
"""

from pydnn.numerics.fast import fast
from pydnn.numerics.interface import Numerics
from pydnn.numerics.memory import empty, room_for
from pydnn.numerics.portable import portable
from pydnn.numerics.threads import in_blocks

__all__ = ["ARITHMETICS", "Numerics", "empty", "fast", "in_blocks", "portable", "room_for"]

ARITHMETICS = {one.name: one for one in (fast, portable)}  # by their names in recipes
