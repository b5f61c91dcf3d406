"""Decoupled distillation against NumPy in float64, written from the paper's probabilities."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.dkd import DKD
from kdfuse.distill.losses.soft_targets import SoftTargets


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def paper(teacher: np.ndarray, student: np.ndarray, labels: np.ndarray, temperature: float, alpha: float, beta: float) -> float:
    total = 0.0
    for z_t, z_s, y in zip(teacher / temperature, student / temperature, labels, strict=True):
        p_t, p_s = softmax(z_t), softmax(z_s)
        target = p_t[y] * np.log(p_t[y] / p_s[y]) + (1 - p_t[y]) * np.log((1 - p_t[y]) / (1 - p_s[y]))
        q_t, q_s = softmax(np.delete(z_t, y)), softmax(np.delete(z_s, y))
        total += alpha * target + beta * np.sum(q_t * np.log(q_t / q_s))
    return float(temperature**2 * total / len(labels))


def example(scale: float = 3.0, batch: int = 12, classes: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    teacher, student = (scale * rng.standard_normal((2, batch, classes))).astype("float32")
    return teacher, student, rng.integers(0, classes, batch)


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize(("temperature", "alpha", "beta"), [(4.0, 1.0, 8.0), (1.0, 1.0, 0.0), (1.0, 0.0, 1.0), (10.0, 0.5, 2.0)])
def test_value_and_gradient(scale: float, temperature: float, alpha: float, beta: float) -> None:
    teacher, student, labels = example(scale)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = DKD(temperature, alpha, beta).compute_loss(teacher, tf.convert_to_tensor(variable), labels=labels)
    wide = teacher.astype(np.float64), student.astype(np.float64)
    assert float(value) == pytest.approx(paper(*wide, labels, temperature, alpha, beta), rel=2e-5)
    expected = np.zeros(student.shape)
    for place in np.ndindex(*student.shape):
        for sign in (1, -1):
            moved = wide[1].copy()
            moved[place] += sign * 1e-5
            expected[place] += sign * paper(wide[0], moved, labels, temperature, alpha, beta) / 2e-5
    np.testing.assert_allclose(tape.gradient(value, variable), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_its_parts_make_soft_targets() -> None:
    """The paper's identity: KL = target part + (1 - p_t of the true class) * part of the others, sample by sample."""
    teacher, student, labels = example()
    rest = 1 - softmax(teacher / 4)[np.arange(12), labels]
    for place in range(12):
        one = slice(place, place + 1)
        whole = float(SoftTargets(4.0).compute_loss(teacher[one], student[one]))
        split = float(DKD(4.0, 1.0, float(rest[place])).compute_loss(teacher[one], student[one], labels=labels[one]))
        assert split == pytest.approx(whole, rel=1e-4)


def test_logits_of_any_size() -> None:
    teacher, student, labels = example(1e4)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = DKD(1.0, 1.0, 1.0).compute_loss(teacher, tf.convert_to_tensor(variable), labels=labels)
    # So far apart a softmax is an argmax: where the teacher's choice is not the student's, the logits' distance remains.
    expected = 0.0
    for z_t, z_s, y in zip(teacher.astype(np.float64), student.astype(np.float64), labels, strict=True):
        others_t, others_s = np.delete(z_t, y), np.delete(z_s, y)
        chosen = others_t.argmax()
        margin_t, margin_s = z_t[y] - others_t.max(), z_s[y] - others_s.max()
        expected += max(0.0, -np.sign(margin_t) * margin_s) + others_s.max() - others_s[chosen]
    assert float(value) == pytest.approx(expected / 12, rel=1e-5)
    gradient = np.asarray(tape.gradient(value, variable))
    assert np.isfinite(gradient).all() and 0.01 < np.abs(gradient).max() < 1


def test_labels_as_numbers_columns_and_one_hot_rows() -> None:
    teacher, student, labels = example()
    expected = float(DKD().compute_loss(teacher, student, labels=labels))
    for given in (labels[:, None], np.eye(6, dtype="float32")[labels], labels.astype("uint8")):
        assert float(DKD().compute_loss(teacher, student, labels=given)) == pytest.approx(expected, rel=1e-6)
    assert float(DKD().compute_loss(teacher, student, labels=(labels + 1) % 6)) != pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match=r"DKD needs labels: use it in kdfuse.Distill on labelled rows, or give `labels`"):
        DKD().compute_loss(teacher, student)


def test_positions_with_labels_of_their_own() -> None:
    teacher, student, labels = example()
    one = float(DKD().compute_loss(teacher, student, labels=labels))
    folded = DKD().compute_loss(teacher.reshape(4, 3, 6), student.reshape(4, 3, 6), labels=labels.reshape(4, 3))
    assert float(folded) == pytest.approx(one, rel=1e-6)


def test_two_classes_and_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="DKD needs logits .* at least 3 classes"):
        DKD().compute_loss(np.zeros((4, 2)), np.zeros((4, 2)), labels=np.zeros(4))
    with pytest.raises(ValueError, match="DKD needs a head of logits or softmax"):
        DKD().check_head("sigmoid")
    with pytest.raises(ValueError, match="`beta`: expected a number from 0. Received: beta=-1"):
        DKD(beta=-1)
    with pytest.raises(ValueError, match="`temperature`: expected a number above 0"):
        DKD(temperature=0)


def test_is_found_by_keras() -> None:
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(DKD(2.0, 3.0, 4.0, output="digit")))
    assert revived.get_config() == {"temperature": 2.0, "alpha": 3.0, "beta": 4.0, "output": "digit"}
