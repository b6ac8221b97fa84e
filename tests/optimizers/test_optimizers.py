"""What optimizers refuse and observe; tests/test_laws.py checks that they are right."""

import math

import pytest
from loops import LOOPS, LR, parameters

from pydnn import BadInput, adam, adamw, gradient_descent, momentum, nadam, rmsprop
from pydnn.optimizers.adaptive import __all__ as ADAPTIVE  # noqa: N812
from pydnn.optimizers.momentum import __all__ as MOMENTUM  # noqa: N812


def test_every_optimizer_is_in_the_table():
    parts = {"heavy_ball", "sign_of_momentum"}  # tested as parts of other optimizers
    builders = {
        name
        for name in (*ADAPTIVE, *MOMENTUM)
        if name not in parts and not name.startswith("scale_by_")
    }
    assert {name.partition(",")[0] for name in LOOPS} == builders


@pytest.mark.parametrize("optimizer", [o for o, _ in LOOPS.values()], ids=LOOPS)
def test_an_optimizer_observes_its_learning_rate(optimizer):
    assert optimizer.observe(optimizer.init(parameters())) == {"learning_rate": LR}


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, "fast"])
def test_a_rate_that_is_not_above_0_is_refused(rate):
    with pytest.raises(BadInput, match=r"learning_rate is .*: give a step size, e\.g\. 0\.0075"):
        gradient_descent(learning_rate=rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: momentum(learning_rate=1, decay=1), "decay is 1, expected a number below 1"),
        (lambda: adam(beta1=-0.1), r"beta1 is -0\.1, expected a number of at least 0"),
        (lambda: adamw(weight_decay=-1), "rate is -1"),
        (lambda: rmsprop(epsilon=0), "epsilon is 0, expected a number above 0"),
        (lambda: nadam(momentum_decay=-1), "momentum_decay is -1"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(BadInput, match=message):
        make()
