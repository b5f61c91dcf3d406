"""Losses against teachers: sums over teachers, layers that are read, trained parts."""

from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.distill.lessons import short
from kdfuse.distill.losses.hints import Hints
from kdfuse.distill.losses.logits_mse import LogitsMSE
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.terms import Terms, layers_of, needs_rows
from kdfuse.distill.weighting import confidence_weights, entropy_weights

ROWS, CLASSES = 12, 5
DRAW = np.random.default_rng(0)
STUDENT = DRAW.standard_normal((ROWS, CLASSES)).astype("float32")
TEACHERS = [3 * DRAW.standard_normal((ROWS, CLASSES)).astype("float32") for _ in range(3)]
LABELS = DRAW.integers(0, CLASSES, ROWS)
WEIGHTS = DRAW.uniform(0, 2, ROWS).astype("float32")


def lessons(count: int) -> list[dict[str, Any]]:
    return [{"logits": teacher} for teacher in TEACHERS[:count]]


def rows(teacher: np.ndarray) -> np.ndarray:
    return np.square(teacher.astype("float64") - STUDENT).mean(-1)


def test_one_teacher() -> None:
    found = Terms([LogitsMSE(), SoftTargets(2.0)]).values(lessons(1), STUDENT, (), sample_weight=WEIGHTS)
    assert float(found[0]) == pytest.approx((rows(TEACHERS[0]) * WEIGHTS).mean(), rel=1e-5)
    assert float(found[1]) == pytest.approx(float(SoftTargets(2.0).compute_loss(TEACHERS[0], STUDENT, WEIGHTS)), rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "shares"), [("mean", (1 / 3, 1 / 3, 1 / 3)), ((1, 2, 5), (1 / 8, 2 / 8, 5 / 8)), ((0, 4, 0), (0, 1, 0))]
)
def test_numbers_for_teachers(weights: Any, shares: tuple[float, ...]) -> None:
    (found,) = Terms([LogitsMSE()], 3, weights).values(lessons(3), STUDENT, ())
    assert float(found) == pytest.approx(sum(share * rows(one).mean() for share, one in zip(shares, TEACHERS, strict=True)), rel=1e-5)


@pytest.mark.parametrize("weights", ["entropy", "confidence"])
@pytest.mark.parametrize("sample_weight", [None, WEIGHTS, WEIGHTS[:, None]])
def test_weights_of_samples_for_teachers(weights: str, sample_weight: Any) -> None:
    (found,) = Terms([LogitsMSE()], 3, weights).values(lessons(3), STUDENT, (), labels=LABELS, sample_weight=sample_weight)
    shares = entropy_weights(TEACHERS) if weights == "entropy" else confidence_weights(TEACHERS, LABELS)
    own = 1.0 if sample_weight is None else WEIGHTS
    expected = sum((np.asarray(share) * own * rows(one)).mean() for share, one in zip(shares, TEACHERS, strict=True))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_several_outputs_have_weights_of_their_own() -> None:
    outputs = {"a": STUDENT, "b": STUDENT[:, :3]}
    given = [{"logits": {"a": teacher, "b": -teacher[:, :3]}} for teacher in TEACHERS[:2]]
    (found,) = Terms([LogitsMSE()], 2, "entropy").values(given, outputs, (), labels={"a": LABELS, "b": LABELS % 3})
    alone = 0.0
    for name, student in outputs.items():
        (part,) = Terms([LogitsMSE()], 2, "entropy").values([{"logits": one["logits"][name]} for one in given], student, ())
        alone += float(part)
    assert float(found) == pytest.approx(alone, rel=1e-5)


def test_soft_targets_of_several_teachers_pull_to_their_mean() -> None:
    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    import tensorflow as tf

    student = tf.Variable(STUDENT)
    with tf.GradientTape() as tape:
        (value,) = Terms([SoftTargets(3.0)], 3).values(lessons(3), tf.convert_to_tensor(student), ())
    mean = np.mean([softmax(teacher.astype("float64") / 3) for teacher in TEACHERS], axis=0)
    np.testing.assert_allclose(tape.gradient(value, student), 3 * (softmax(STUDENT.astype("float64") / 3) - mean) / ROWS, atol=1e-6)


def test_the_short_form_is_read() -> None:
    packed = [short(lesson, 2) for lesson in lessons(1)]
    (found,) = Terms([SoftTargets(1.0)]).values(packed, STUDENT, ())
    (exact,) = Terms([SoftTargets(1.0)]).values(lessons(1), STUDENT, ())
    assert 0 < abs(float(found) - float(exact)) < 0.5 * float(exact)


def test_layers_are_read_once_and_parts_belong_to_a_teacher() -> None:
    losses = [Hints("conv", "small"), Hints(("conv", "late"), ("small", "small")), SoftTargets()]
    assert layers_of(losses) == (("conv", "late"), ("small",)) and not needs_rows(losses)
    terms = Terms(losses, 2)
    terms.build([[(8, 4, 4, 6), (8, 2, 2, 9)]] * 2, [(8, 4, 4, 3)], ROWS)
    assert [tuple(part.kernel.shape) for part in terms.parts] == 2 * [(3, 6), (3, 6), (3, 9)]
    assert len({id(part) for part in terms.parts}) == 6
    given = [{"logits": teacher, "features": (DRAW.standard_normal((ROWS, 4, 4, 6)), DRAW.standard_normal((ROWS, 2, 2, 9)))}
             for teacher in TEACHERS[:2]]  # fmt: skip
    made = DRAW.standard_normal((ROWS, 4, 4, 3)).astype("float32")
    found = terms.values(given, STUDENT, (made,))
    kernels = [np.asarray(part.kernel) for part in terms.parts[::3]]
    expected = np.mean([np.square(made @ kernel - lesson["features"][0]).mean() for kernel, lesson in zip(kernels, given, strict=True)])
    assert float(found[0]) == pytest.approx(expected, rel=1e-4)
    assert terms.losses[2].temperature is not SoftTargets().temperature and float(terms.losses[2].temperature) == 4.0


def test_features_that_do_not_fit_are_named() -> None:
    terms = Terms([Hints("conv", "small")])
    with pytest.raises(ValueError, match="`losses`: Hints on the teacher's conv and the student's small: The teacher's features need"):
        terms.build([[(8,)]], [(8, 4)], None)


def test_a_loss_that_is_not_kdfuses() -> None:
    foreign = keras.distillation.LogitsDistillation(loss="mse")
    (found,) = Terms([foreign], 2, (1, 3)).values(lessons(2), STUDENT, (), sample_weight=WEIGHTS)
    parts = [float(foreign.compute_loss(teacher, STUDENT)) for teacher in TEACHERS[:2]]
    assert float(found) == pytest.approx(parts[0] / 4 + 3 * parts[1] / 4, rel=1e-5)
