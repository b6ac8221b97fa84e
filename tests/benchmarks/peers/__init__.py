"""The peers: each is a function `(work) -> begin`.

`begin()` resets the peer to the start of the work, and returns a function that takes the steps of
one turn and returns their costs once everything is computed. Only that function is timed.
"""

import importlib

__all__ = ["FRAMEWORKS", "PEERS", "Absent", "peer_called"]

PEERS = {
    "pydnn": "with_pydnn:fold",
    "pydnn compiled": "with_pydnn:compiled",
    "pydnn compiled, a call a step": "with_pydnn:compiled_a_call_a_step",
    "pydnn portable": "with_pydnn:portable_fold",
    "pydnn portable compiled": "with_pydnn:portable_compiled",
    "NumPy in place": "in_place:loop",
    "tutorial's listing": "with_listing:loop",
    "PyTorch, eager": "with_torch:eager",
    "PyTorch, channels last": "with_torch:channels_last",
    "PyTorch, compiled": "with_torch:compiled",
    "JAX, a call a step": "with_jax:a_call_a_step",
    "JAX, whole loop": "with_jax:whole_loop",
    "scikit-learn": "with_sklearn:fit",
    "products alone": "products:alone",
}
FRAMEWORKS = ("PyTorch", "JAX")


class Absent(Exception):  # noqa: N818 - not an error: the suite goes on without it
    """A peer that cannot run here, with the reason."""


def peer_called(name):
    """Return the function of a peer; raise Absent if a package it needs is not installed."""
    module, _, function = PEERS[name].partition(":")
    try:
        return getattr(importlib.import_module(f"peers.{module}"), function)
    except ImportError as error:
        raise Absent(f"{error.name} is not installed: it is of the extra bench") from error
