"""Other people's tools: what pydnn writes for them, and what it reads of theirs."""

from pydnn.interop.weights import Weights, load_weights

__all__ = ["Weights", "load_weights"]
