"""The compiled engine: the same functions as loops, compiled by numba to the same bits.

Nothing outside this package imports it, except `pydnn.engines` once a user chooses it.
"""

from pydnn.compiled import convolutions, keys, layers, passes, pooling, portable, steps, team

__all__ = ["convolutions", "keys", "layers", "passes", "pooling", "portable", "steps", "team"]
