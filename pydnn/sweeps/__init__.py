"""Many runs of one recipe: over seeds, for error bars, and over values, to choose among them.

Runs of one shape are trained in one fold, by stacked products, each with the bits that it has by
itself:

    plan = sweep(recipe, batch, seeds=32, over={"optimizer.learning_rate": [0.01, 0.1]})
    result = run_sweep(plan)
    result.spread("train accuracy"), result.outcomes[result.best()]
"""

from pydnn.sweeps.plans import Variation, varied
from pydnn.sweeps.results import Outcome, Spread, SweepResult, higher_is_better, spread_of
from pydnn.sweeps.running import Sweep, outcomes, run_sweep, sweep
from pydnn.sweeps.stacks import Stack, stack_of, why_not_stacked

__all__ = [
    "Outcome",
    "Spread",
    "Stack",
    "Sweep",
    "SweepResult",
    "Variation",
    "higher_is_better",
    "outcomes",
    "run_sweep",
    "spread_of",
    "stack_of",
    "sweep",
    "varied",
    "why_not_stacked",
]
