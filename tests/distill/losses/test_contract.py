"""What every loss on logits promises. A loss joins by being listed in `kdfuse.distill.losses`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill import losses
from kdfuse.distill.losses.base import Loss
from kdfuse.distill.losses.features import FeatureLoss
from kdfuse.settings import flatten, replace

FAMILY = [
    kind
    for kind in vars(losses).values()
    if isinstance(kind, type) and issubclass(kind, Loss) and not issubclass(kind, FeatureLoss) and kind is not Loss
]
NOT_ZERO_AT_EQUALITY = {"HardLabels"}
NO_MEAN_OVER_ROWS = {"DIST"}  # what it promises of weights instead is in its own test
family = pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
BY_ROWS = [kind for kind in FAMILY if kind.__name__ not in NO_MEAN_OVER_ROWS]
by_rows = pytest.mark.parametrize("kind", BY_ROWS, ids=lambda kind: kind.__name__)


def logits(batch: int = 16, classes: int = 10, *positions: int, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    teacher, student = scale * np.random.default_rng(batch).standard_normal((2, batch, *positions, classes))
    return teacher.astype("float32"), student.astype("float32")


def truth(loss: Loss, student: object) -> object:
    """Class numbers, which depend on the row's own values alone: a row keeps its label wherever it stands."""

    def classes(z: object) -> np.ndarray:
        return np.abs(1e3 * np.asarray(z)).astype(int).sum(-1) % np.shape(z)[-1]

    return keras.tree.map_structure(classes, student) if loss.needs_labels else None


def value(loss: Loss, teacher: object, student: object, **extra: object) -> float:
    return float(loss.compute_loss(teacher, student, labels=truth(loss, student), **extra))


def test_the_family_is_whole() -> None:
    assert {kind.__name__ for kind in FAMILY} >= {"SoftTargets", "LogitsMSE", "HardLabels", "LogitStandardization", "DKD", "DIST"}


@family
def test_config_round_trip(kind: type[Loss]) -> None:
    loss = kind(output="digit")
    again = kind.from_config(loss.get_config())
    assert again.get_config() == loss.get_config() and again.output == "digit"
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(revived) is kind and revived.get_config() == loss.get_config()
    names = flatten(loss)
    assert names["output"] == "digit"
    for name in kind.scheduled:
        assert replace(loss, {name: 7.0}).get_config()[name] == 7.0


@family
def test_zero_at_equality(kind: type[Loss]) -> None:
    teacher, student = logits()
    assert value(kind(), teacher, student) > 0.01
    if kind.__name__ not in NOT_ZERO_AT_EQUALITY:
        assert value(kind(), teacher, teacher) == pytest.approx(0, abs=1e-6)


@family
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("batch", [1, 7])
def test_finite_gradients(kind: type[Loss], scale: float, batch: int) -> None:
    teacher, student = logits(batch, scale=scale)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        loss = kind().compute_loss(tf.constant(teacher), tf.convert_to_tensor(variable), labels=truth(kind(), student))
    assert loss.shape == () and np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, variable)).all()


@family
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_computes_in_float32(kind: type[Loss], dtype: str) -> None:
    teacher, student = (tf.cast(z, dtype) for z in logits())
    teacher_32, student_32 = tf.cast(teacher, "float32"), tf.cast(student, "float32")
    loss = kind().compute_loss(teacher, student, labels=truth(kind(), student_32))
    assert loss.dtype == "float32"
    assert float(loss) == pytest.approx(value(kind(), teacher_32, student_32), rel=1e-6)


@family
def test_rows_without_weight_have_no_part(kind: type[Loss]) -> None:
    teacher, student = logits(16)
    weights = (np.random.default_rng(1).random(16) < 0.6).astype("float32")
    some = weights > 0
    kept = value(kind(), teacher[some], student[some])
    assert 1 < some.sum() < 16
    for given in (weights, weights[:, None]):
        assert value(kind(), teacher, student, sample_weight=given) == pytest.approx(kept * some.mean(), rel=1e-5)
        assert value(kind(), teacher, student, sample_weight=3 * given) == pytest.approx(3 * kept * some.mean(), rel=1e-5)
    assert value(kind(), teacher, student, sample_weight=np.full(16, 0.3)) == pytest.approx(0.3 * value(kind(), teacher, student), rel=1e-5)
    assert value(kind(), teacher, student, sample_weight=np.zeros(16)) == 0
    changed = student.copy()
    changed[~some] = 7 * changed[~some][:, ::-1]
    assert kind().needs_labels or value(kind(), teacher, changed, sample_weight=weights) == pytest.approx(kept * some.mean(), rel=1e-5)


@by_rows
def test_sample_weights(kind: type[Loss]) -> None:
    teacher, student = logits(16)
    weights = np.random.default_rng(0).uniform(0, 2, 16).astype("float32")
    rows = [value(kind(), teacher[i : i + 1], student[i : i + 1]) for i in range(16)]
    assert value(kind(), teacher, student) == pytest.approx(np.mean(rows), rel=1e-5)
    for given in (weights, weights[:, None]):
        assert value(kind(), teacher, student, sample_weight=given) == pytest.approx((rows @ weights) / 16, rel=1e-5)


@by_rows
def test_weights_of_sequences(kind: type[Loss]) -> None:
    teacher, student = logits(5, 10, 5)  # as many positions as rows: a wrong broadcast would not be noticed
    weights = np.arange(5, dtype="float32")
    rows = [value(kind(), teacher[i : i + 1], student[i : i + 1]) for i in range(5)]
    expected = (rows @ weights) / 5
    for given in (weights, weights[:, None], np.repeat(weights[:, None], 5, 1)):
        assert value(kind(), teacher, student, sample_weight=given) == pytest.approx(expected, rel=1e-5)


@family
def test_a_mask_is_as_if_the_positions_were_not_there(kind: type[Loss]) -> None:
    teacher, student = logits(4, 10, 6)
    mask = np.random.default_rng(3).random((4, 6)) < 0.6
    kept = value(kind(), teacher[mask], student[mask])
    assert value(kind(), teacher, student, mask=tf.constant(mask)) == pytest.approx(kept, rel=1e-5)
    tensor = tf.constant(student)
    tensor._keras_mask = tf.constant(mask)
    assert value(kind(), teacher, tensor) == pytest.approx(kept, rel=1e-5)
    weights = np.float32([0, 1, 2, 3])
    spread = np.repeat(weights[:, None], 6, 1)[mask]
    weighted = value(kind(), teacher[mask], student[mask], sample_weight=spread)
    assert value(kind(), teacher, student, mask=tf.constant(mask), sample_weight=weights) == pytest.approx(weighted, rel=1e-5)


@family
def test_several_outputs(kind: type[Loss]) -> None:
    (teacher_a, student_a), (teacher_b, student_b) = logits(8, 10), logits(8, 4)
    one, other = value(kind(), teacher_a, student_a), value(kind(), teacher_b, student_b)
    teachers, students = {"a": teacher_a, "b": teacher_b}, {"b": student_b, "a": student_a}
    assert value(kind(), teachers, students) == pytest.approx(one + other, rel=1e-6)
    assert value(kind(), [teacher_a, teacher_b], (student_a, student_b)) == pytest.approx(one + other, rel=1e-6)
    assert value(kind(output="b"), teachers, students) == pytest.approx(other, rel=1e-6)
    assert value(kind(output=-1), [teacher_a, teacher_b], [student_a, student_b]) == pytest.approx(other, rel=1e-6)
    weights = {"a": np.zeros(8, "float32"), "b": np.ones(8, "float32")}
    assert value(kind(), teachers, students, sample_weight=weights) == pytest.approx(other, rel=1e-6)
    with pytest.raises(ValueError, match="there is no output 'digits'"):
        value(kind(output="digits"), teachers, students)
    with pytest.raises(ValueError, match="expected one for each output, 2 in all. Received: 1"):
        value(kind(), teacher_a, [student_a, student_b])
    with pytest.raises(ValueError, match="there is no output 'a'"):
        value(kind(), {"x": teacher_a, "b": teacher_b}, students)


@family
def test_classes_that_differ_are_refused(kind: type[Loss]) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}: teacher and student need logits of one shape. The teacher gives \(4, 10\)"):
        kind().compute_loss(np.zeros((4, 10)), np.zeros((4, 9)))
    if kind.min_classes > 1:
        with pytest.raises(ValueError, match="at least"):
            kind().compute_loss(np.zeros((4, 1)), np.zeros((4, 1)))


@family
def test_heads(kind: type[Loss]) -> None:
    for head in kind.needs:
        kind().check_head(head)
    for head in {"logits", "softmax", "sigmoid", "regression"} - set(kind.needs):
        with pytest.raises(ValueError, match=f"{kind.__name__} needs a head of .* Received: head='{head}'"):
            kind().check_head({"a": "softmax", "b": head})
        kind(output="a").check_head({"a": "softmax", "b": head})


@family
def test_attached_settings_are_variables(kind: type[Loss]) -> None:
    teacher, student = logits()
    loss = kind()
    copy = loss.attached()
    assert copy is not loss and loss.variables() == [] and len(copy.variables()) == len(kind.scheduled)
    assert copy.get_config() == loss.get_config()
    traces = []

    @tf.function
    def compute() -> tf.Tensor:
        traces.append(1)
        return copy.compute_loss(teacher, student, labels=truth(loss, student))

    assert float(compute()) == pytest.approx(value(loss, teacher, student), rel=1e-6)
    for place, name in enumerate(kind.scheduled):
        getattr(copy, name).assign(9.0)
        moved = replace(loss, dict.fromkeys(kind.scheduled[: place + 1], 9.0))
        assert float(compute()) == pytest.approx(value(moved, teacher, student), rel=1e-6)
        assert value(moved, teacher, student) != pytest.approx(value(loss, teacher, student), rel=1e-3)
        assert getattr(loss, name) != 9.0
    assert len(traces) == 1
    second = loss.attached(sharing=copy)
    assert second is not copy and all(getattr(second, name) is getattr(copy, name) for name in kind.scheduled)


@family
def test_inside_keras_own_distiller(kind: type[Loss]) -> None:
    def model(units: int) -> keras.Model:
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(4)])

    student = model(3)
    distiller = keras.distillation.Distiller(model(9), student, kind())
    distiller.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).standard_normal((32, 8)).astype("float32")
    before = student.get_weights()
    if kind.needs_labels:
        with pytest.raises(ValueError, match=f"{kind.__name__} needs labels: use it in kdfuse.Distill"):
            distiller.fit(x, np.arange(32) % 4, batch_size=16, epochs=1, verbose=0)
        return
    history = distiller.fit(x, np.arange(32) % 4, batch_size=16, epochs=1, verbose=0).history
    assert np.isfinite(history["distillation_loss"]).all() and history["distillation_loss"][0] > 0
    assert not np.array_equal(before[0], student.get_weights()[0])
