"""The law of stages and optimizers that declare elementwise=True."""

import attrs
import pytest
from own_parts import cube_root, shrunk, signs_of_mean, squared_relu

from pydnn.optimizers.base import GradientTransformation
from pydnn.optimizers.clipping import clip_by_global_norm
from pydnn.records import freeze
from pydnn.stages.activations import relu
from pydnn.stages.base import elementwise
from pydnn.testing import BrokenLaw, assert_gradient_transformation, assert_stage


@pytest.mark.parametrize("stage", [cube_root(), squared_relu(), relu()], ids=repr)
def test_activations_keep_the_law(stage):
    assert "elementwise" in str(assert_stage(stage, shape_in=(3,)))


@pytest.mark.parametrize("optimizer", [signs_of_mean(), shrunk()], ids=repr)
def test_optimizers_keep_the_law(optimizer):
    assert "elementwise" in str(assert_gradient_transformation(optimizer, descends=False))


def test_a_stage_that_uses_other_numbers_is_found():
    centered = elementwise(
        "centered",
        lambda Z, numerics: Z - Z.mean(axis=0),
        lambda dA, Z, A, numerics: dA - dA.mean(axis=0),
    )
    with pytest.raises(BrokenLaw, match="another number in one place changes A in other places"):
        assert_stage(centered, shape_in=(3,))


def test_an_optimizer_that_uses_other_numbers_is_found():
    wrongly_declared = attrs.evolve(clip_by_global_norm(0.1), elementwise=True)
    with pytest.raises(BrokenLaw, match="another gradient of one number changes other numbers"):
        assert_gradient_transformation(wrongly_declared, descends=False)


def test_the_law_is_not_tried_without_the_declaration():
    plain = GradientTransformation(
        lambda params: (), lambda grads, state, params, context=None: (freeze(-grads), state)
    )
    assert "elementwise" not in str(assert_gradient_transformation(plain, descends=False))
