"""Sweeps train one recipe with many seeds, for error bars, or with many values, to choose one.

    plan = sweep(recipe, batch, seeds=32, over={"optimizer.learning_rate": [0.01, 0.1]})
    result = run_sweep(plan)
    result.spread("train accuracy"), result.outcomes[result.best()]

Trainings of one shape are stacked: one fold over stacked arrays does the work of many small ones.
Each training gives bit for bit what it gives alone, also with several workers:

    with nn.workers.processes(4) as executor:
        result = run_sweep(plan, executor=executor, record="sweeps/first")

A recorded sweep that is started again goes on where it ended.
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
