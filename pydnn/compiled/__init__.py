"""The compiled engine: the same functions as loops, compiled by numba to the same bits.

Nothing outside this package imports it, except `pydnn.engines` once a user chooses it.

- From a function to a loop: `tracing` writes its text, `loops` runs it. `passes` does so for
  updates of optimizers, `layers` for stages, `steps` and `step_text` for whole steps.
- Kernels written by hand: `convolutions`, `pooling`, `keys` and `memory`. Those of an arithmetic
  are in `fast` and `portable`, and `arithmetics` says how whole steps use them.
- Functions of others that kernels call: `blas` and `ufuncs`. `team` has the threads of products.
- How kernels are compiled and kept: `kernels`, `keeping` and `aside`.
"""

from pydnn.compiled import convolutions, keys, layers, passes, pooling, portable, steps, team

__all__ = ["convolutions", "keys", "layers", "passes", "pooling", "portable", "steps", "team"]
