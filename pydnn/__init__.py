"""Deep networks trained as a fold of pure functions, on NumPy alone."""

# Builders come by star, so that a new one is named in its own file alone.
from pydnn import batches, losses, metrics, optimizers, penalties, stages, training
from pydnn.batches import *  # noqa: F403
from pydnn.checks import BadInput, MissingExtra
from pydnn.descriptions.builders import build, describe, described
from pydnn.jobs.standardization import Standardization, fit_standardization
from pydnn.keys import Key
from pydnn.losses import *  # noqa: F403
from pydnn.metrics import *  # noqa: F403
from pydnn.numerics import fast, portable
from pydnn.optimizers import *  # noqa: F403
from pydnn.penalties import *  # noqa: F403
from pydnn.records import Batch
from pydnn.stages import *  # noqa: F403
from pydnn.training import *  # noqa: F403

__version__ = "0.1.0"

__all__ = ["BadInput", "Batch", "Key", "MissingExtra", "build", "describe", "described", "fast"]
__all__ += ["Standardization", "fit_standardization", "portable"]
__all__ += batches.__all__
__all__ += losses.__all__
__all__ += metrics.__all__
__all__ += optimizers.__all__
__all__ += penalties.__all__
__all__ += stages.__all__
__all__ += training.__all__
