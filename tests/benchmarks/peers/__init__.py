"""Those who do the works: each a function from a work to what begins a turn of it.

What begins a turn goes back to the work's start, and gives the function that takes the steps: it
returns the cost of each once all has been computed. Only the latter is timed.
"""

import importlib

__all__ = ["FRAMEWORKS", "PEERS", "Absent", "peer_called"]

PEERS = {
    "pydnn": "with_pydnn:fold",
    "NumPy in place": "in_place:loop",
    "tutorial's listing": "with_listing:loop",
    "PyTorch, eager": "with_torch:eager",
    "PyTorch, compiled": "with_torch:compiled",
    "JAX, a call a step": "with_jax:a_call_a_step",
    "JAX, whole loop": "with_jax:whole_loop",
    "scikit-learn": "with_sklearn:fit",
    "products alone": "products:alone",
}
FRAMEWORKS = ("PyTorch", "JAX")


class Absent(Exception):  # noqa: N818 - no error: others go on without it
    """A peer that cannot take part here, and why."""


def peer_called(name):
    """The function of the peer of that name; Absent if what it needs is not installed."""
    module, _, function = PEERS[name].partition(":")
    try:
        return getattr(importlib.import_module(f"peers.{module}"), function)
    except ImportError as error:
        raise Absent(f"{error.name} is not installed: it is of the extra bench") from error
