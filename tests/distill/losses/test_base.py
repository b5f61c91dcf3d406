"""The base of the losses: a loss of one's own, and what it refuses. What all losses promise is in `test_contract.py`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.base import Loss, float_of, positive, scalar

TEACHER, STUDENT = np.random.default_rng(0).standard_normal((2, 16, 10)).astype("float32")


def test_a_loss_of_ones_own_in_ten_lines() -> None:
    @keras.saving.register_keras_serializable("mine")
    class AbsoluteError(Loss):
        def per_sample(self, teacher_logits: tf.Tensor, student_logits: tf.Tensor) -> tf.Tensor:
            return keras.ops.mean(keras.ops.abs(teacher_logits - student_logits), axis=-1)

    assert AbsoluteError().name == "absolute_error"
    assert float(AbsoluteError().compute_loss(TEACHER, STUDENT)) == pytest.approx(np.abs(TEACHER - STUDENT).mean(), rel=1e-6)


def test_a_loss_without_a_formula_says_so() -> None:
    with pytest.raises(RuntimeError, match="writes no `per_sample`"):
        Loss().compute_loss(TEACHER, STUDENT)
    with pytest.raises(ValueError, match="`output`: expected a name, a place or None"):
        Loss(output=1.5)  # type: ignore[arg-type]


def test_numbers_and_variables() -> None:
    variable = scalar(3.0, "temperature")
    assert not variable.trainable and variable.dtype == "float32" and variable.shape == ()
    assert float_of(variable) == positive("temperature", variable) == float_of(3) == 3.0
    with pytest.raises(ValueError, match="`temperature`: expected a number above 0. Received: temperature=0"):
        positive("temperature", 0)
