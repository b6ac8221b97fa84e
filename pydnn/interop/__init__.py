"""Other people's tools: what pydnn writes for them, and what it reads of theirs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydnn.interop.weights import Weights, load_weights

__all__ = ["Weights", "load_weights"]

if not TYPE_CHECKING:  # for a type checker, any name would be one of this module then

    def __getattr__(name: str) -> Any:
        """Load what is asked for, since most who need one module here need no other."""
        if name in __all__:
            from pydnn.interop import weights

            return getattr(weights, name)
        raise AttributeError(f"module 'pydnn.interop' has no attribute {name!r}")
