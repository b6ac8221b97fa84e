"""Optimizers: chains of gradient transformations, one file per family."""

from pydnn.optimizers import adaptive, base, clipping, decay, layers, schedules, wrappers
from pydnn.optimizers.adaptive import *  # noqa: F403 - so a new one changes one file only
from pydnn.optimizers.base import *  # noqa: F403
from pydnn.optimizers.clipping import *  # noqa: F403
from pydnn.optimizers.decay import *  # noqa: F403
from pydnn.optimizers.layers import *  # noqa: F403
from pydnn.optimizers.momentum import (
    gradient_descent,
    heavy_ball,
    lion,
    momentum,
    nesterov,
    sign_of_momentum,
)
from pydnn.optimizers.schedules import *  # noqa: F403
from pydnn.optimizers.wrappers import *  # noqa: F403

__all__ = ["gradient_descent", "heavy_ball", "lion", "momentum", "nesterov", "sign_of_momentum"]
__all__ += adaptive.__all__
__all__ += base.__all__
__all__ += clipping.__all__
__all__ += decay.__all__
__all__ += layers.__all__
__all__ += schedules.__all__
__all__ += wrappers.__all__
