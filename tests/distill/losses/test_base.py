"""The base of the losses: a loss of one's own, and what it refuses. What all losses promise is in `test_contract.py`."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.base import Loss, float_of, mean_over_batch, not_negative, positive, scalar

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


def test_numbers_from_zero() -> None:
    assert not_negative("alpha", 0) == 0.0 and not_negative("alpha", scalar(2.0, "alpha")) == 2.0
    for wrong in (-1, float("nan"), float("inf"), True, "1", None):
        with pytest.raises(ValueError, match="`alpha`: expected a number from 0. Received: alpha="):
            not_negative("alpha", wrong)


class Ranked(Loss):
    """A loss that is no mean over samples, with labels and settings of its own."""

    needs_labels = True
    scheduled = ("size",)

    def __init__(self, size: float = 2.0, output: str | int | None = None) -> None:
        super().__init__(output)
        self.size: Any = positive("size", size)

    def term(self, teacher_logits: Any, student_logits: Any, sample_weight: Any, mask: Any, *labels: Any) -> Any:
        self.told = teacher_logits, student_logits, sample_weight, mask, *labels
        return keras.ops.convert_to_tensor(self.size)


def test_what_a_term_is_told() -> None:
    loss = Ranked()
    weights, mask = np.ones(16, "float32"), tf.ones((16,), "bool")
    for labels in (np.arange(16) % 10, (np.arange(16) % 10)[:, None], np.eye(10)[np.arange(16) % 10]):
        found = loss.compute_loss(TEACHER.astype("float16"), STUDENT, sample_weight=weights, mask=mask, labels=labels, more="ignored")
        teacher, student, *given, numbers = loss.told
        assert float(found) == 2.0 and teacher.dtype == student.dtype == "float32" and given[0] is weights and given[1] is mask
        np.testing.assert_array_equal(numbers, np.arange(16) % 10)
        assert numbers.dtype == "int32"
    outputs = {"a": TEACHER, "b": TEACHER}
    assert float(loss.compute_loss(outputs, outputs, labels={"a": np.zeros(16), "b": np.ones(16)})) == 4.0
    np.testing.assert_array_equal(loss.told[-1], np.ones(16))
    with pytest.raises(ValueError, match="Ranked needs labels"):
        loss.compute_loss(TEACHER, STUDENT)


def test_config_comes_from_the_constructor() -> None:
    assert Ranked(3.0, output="a").get_config() == {"size": 3.0, "output": "a"}
    assert repr(Ranked(3.0)) == "Ranked(size=3.0)"
    copy = Ranked(3.0).attached()
    copy.size.assign(5.0)
    assert copy.get_config()["size"] == 5.0 and len(copy.variables()) == 1
    second = Ranked(3.0).attached(sharing=copy)
    assert second.size is copy.size

    class Forgetful(Loss):
        def __init__(self, size: float = 1.0) -> None:
            super().__init__()

    with pytest.raises(ValueError, match=r"Forgetful keeps no attribute 'size'. Set `self.size` in `__init__`"):
        Forgetful().get_config()


def test_the_mean_over_a_batch_is_kerass() -> None:
    values, weights = np.float32([1, 2, 3, 6]), np.float32([0, 1, 2, 1])
    assert float(mean_over_batch("mean", values)) == 3
    assert float(mean_over_batch("mean", values, weights)) == float(mean_over_batch("mean", values, weights[:, None])) == 14 / 4
    mask = tf.constant([True, True, False, True])
    assert float(mean_over_batch("mean", tf.constant(values), mask=mask)) == pytest.approx(3)
    spread = tf.constant(np.stack([values, values], 1))
    assert float(mean_over_batch("mean", spread, weights)) == 14 / 4  # weights of rows, not of columns
    assert float(mean_over_batch("mean", spread, mask=mask)) == pytest.approx(3)
