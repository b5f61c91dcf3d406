"""What every loss on features promises. A loss joins by being listed in `kdfuse.distill.losses`."""

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill import losses
from kdfuse.distill.losses.features import FeatureLoss
from kdfuse.settings import flatten, replace

FAMILY = [kind for kind in vars(losses).values() if isinstance(kind, type) and issubclass(kind, FeatureLoss) and kind is not FeatureLoss]
NOT_ZERO_AT_EQUALITY = {"VID", "CRD", "ReviewKD"}  # between teacher and student stand trained parts
NEEDS_POSITIONS = {"AttentionTransfer", "NST"}
family = pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
Kind = type[FeatureLoss]


def features(*shape: int, seed: int = 0, scale: float = 1.0, like: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng((seed, *shape, like)).standard_normal(shape)).astype("float32")


def maps(batch: int = 8, channels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    return features(batch, 4, 4, channels, seed=1), features(batch, 4, 4, channels, seed=2)


def ready(loss: FeatureLoss, teacher: Any, student: Any, total: int = 8) -> FeatureLoss:
    """A copy as it is used while a student is trained."""
    shapes = [[tuple(one.shape) for one in (given if isinstance(given, list) else [given])] for given in (teacher, student)]
    copy = loss.attached()
    copy.build(*shapes, rows=total)
    return copy


def value(loss: FeatureLoss, teacher: Any, student: Any, rows: Any = None, **extra: Any) -> float:
    """Of a fresh copy each time: some losses remember."""
    count = len(student[0] if isinstance(student, list) else student)
    rows = np.arange(count, dtype="int32") if rows is None else rows
    return float(ready(loss, teacher, student).compute_loss(teacher, student, rows=rows, **extra))


def gradients(loss: FeatureLoss, teacher: Any, student: np.ndarray, **extra: Any) -> tuple[float, np.ndarray, list[np.ndarray]]:
    """Value, and gradients of the student's features and of the loss's parts."""
    copy, variable = ready(loss, teacher, student), tf.Variable(student)
    own = [weight.value for part in copy.parts for weight in part.trainable_weights]
    with tf.GradientTape() as tape:
        rows = np.arange(len(student), dtype="int32")
        found = copy.compute_loss(tf.constant(teacher), tf.convert_to_tensor(variable), rows=rows, **extra)
    assert found.shape == ()
    first, *rest = tape.gradient(found, [variable, *own], unconnected_gradients="zero")
    return float(found), np.asarray(first), [np.asarray(one) for one in rest]


def test_the_family_is_whole() -> None:
    assert {kind.__name__ for kind in FAMILY} >= {"Hints", "AttentionTransfer", "SimilarityPreserving", "PKT"}


@family
def test_config_round_trip(kind: Kind) -> None:
    for names in (("a", "b"), (("a", "c"), ("b", "d")), (None, None)):
        loss = kind(teacher_layer_name=names[0], student_layer_name=names[1])
        assert kind.from_config(loss.get_config()).get_config() == loss.get_config()
        stored = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))  # JSON knows no tuples
        for config in (keras.saving.serialize_keras_object(loss), stored):
            revived = keras.saving.deserialize_keras_object(config)
            assert type(revived) is kind and revived.get_config() == loss.get_config()
            assert (revived.teacher_layer_name, revived.student_layer_name) == names
        assert loss.attached().get_config() == loss.get_config()
    listed = kind(teacher_layer_name=["a", "c"], student_layer_name=["b", "d"])  # type: ignore[arg-type]
    assert listed.teacher_layer_name == ("a", "c")
    assert replace(kind(), {"teacher_layer_name": "conv"}).get_config()["teacher_layer_name"] == "conv"
    assert set(flatten(kind())) >= {"teacher_layer_name", "student_layer_name"}


@family
def test_zero_at_equality(kind: Kind) -> None:
    teacher, student = maps()
    assert value(kind(), teacher, student) > 1e-5
    if kind.__name__ not in NOT_ZERO_AT_EQUALITY:
        found, slope, _ = gradients(kind(), teacher, teacher)
        assert found == pytest.approx(0, abs=1e-6) and np.abs(slope).max() < 1e-5


@family
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0, 1e4])
def test_finite_gradients(kind: Kind, scale: float, batch: int) -> None:
    shape = (batch, 6) if batch == 1 and kind.__name__ not in NEEDS_POSITIONS else (batch, 4, 4, 6)
    teacher, student = features(*shape, seed=1, scale=scale), features(*shape, seed=2, scale=scale)
    partly = student.copy()
    partly[0] = 0
    for own, other in ((teacher, student), (features(*shape, seed=1), partly)):
        found, slope, parts = gradients(kind(), own, other)
        assert np.isfinite(found) and np.isfinite(slope).all() and all(np.isfinite(part).all() for part in parts)


@family
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_computes_in_float32(kind: Kind, dtype: str) -> None:
    teacher, student = (tf.cast(100 + given, dtype) for given in maps())
    found = ready(kind(), teacher, student).compute_loss(teacher, student, rows=np.arange(8, dtype="int32"))
    assert found.dtype == "float32"
    assert float(found) == pytest.approx(value(kind(), tf.cast(teacher, "float32"), tf.cast(student, "float32")), rel=1e-6)


@family
def test_rows_without_weight_have_no_part(kind: Kind) -> None:
    teacher, student = maps()
    weights = np.float32([1, 0, 1, 1, 0, 0, 1, 1])
    some = weights > 0
    kept = value(kind(), teacher[some], student[some], rows=np.flatnonzero(some).astype("int32"))
    for given in (weights, weights[:, None], {"a": weights, "b": weights}):
        assert value(kind(), teacher, student, sample_weight=given) == pytest.approx(kept * some.mean(), rel=1e-4)
        thrice = keras.tree.map_structure(lambda one: 3 * one, given)
        assert value(kind(), teacher, student, sample_weight=thrice) == pytest.approx(3 * kept * some.mean(), rel=1e-4)
    changed = [given.copy() for given in (teacher, student)]
    for given in changed:
        given[~some] = 1e3 * given[~some][:, ::-1]
    assert value(kind(), *changed, sample_weight=weights) == pytest.approx(kept * some.mean(), rel=1e-4)
    found, slope, _ = gradients(kind(), teacher, student, sample_weight=weights)
    assert not slope[~some].any() and slope[some].any()
    assert value(kind(), teacher, student, sample_weight=np.full(8, 0.3)) == pytest.approx(0.3 * value(kind(), teacher, student), rel=1e-4)
    found, slope, _ = gradients(kind(), teacher, student, sample_weight=np.zeros(8, "float32"))
    assert found == 0 and not slope.any()


@family
def test_uneven_weights_are_no_uniform_ones(kind: Kind) -> None:
    teacher, student = maps()
    weights = np.float32([0.1, 3, 0.2, 2, 0.5, 1, 1, 0.2])
    assert value(kind(), teacher, student, sample_weight=weights) != pytest.approx(value(kind(), teacher, student), rel=1e-4)
    variable = tf.Variable(weights)
    copy = ready(kind(), teacher, student)
    with tf.GradientTape() as tape:
        found = copy.compute_loss(teacher, student, sample_weight=variable, rows=np.arange(8, dtype="int32"))
    assert tape.gradient(found, variable) is None  # weights are constants


@family
def test_masked_steps_have_no_part(kind: Kind) -> None:
    teacher, student = features(8, 5, 6, seed=1), features(8, 5, 6, seed=2)
    mask = np.random.default_rng(0).random((8, 5)) < 0.7
    mask[:, 0] = True
    expected = value(kind(), teacher, student, mask=tf.constant(mask))
    assert expected != pytest.approx(value(kind(), teacher, student), rel=1e-4)
    for given in (teacher, student):
        given[~mask] *= -3
    assert value(kind(), teacher, student, mask=tf.constant(mask)) == pytest.approx(expected, rel=1e-5)
    assert value(kind(), teacher, student, mask=[tf.constant(mask)]) == pytest.approx(expected, rel=1e-5)
    tensor = tf.constant(student)
    tensor._keras_mask = tf.constant(mask)
    assert value(kind(), teacher, tensor) == pytest.approx(expected, rel=1e-5)
    assert not gradients(kind(), teacher, student, mask=tf.constant(mask))[1][~mask].any()


@family
def test_several_layers(kind: Kind) -> None:
    (one, other), (two, too) = maps(8, 6), (features(8, 2, 2, 9, seed=3), features(8, 2, 2, 9, seed=4))
    loss = kind(teacher_layer_name=("a", "b"), student_layer_name=("a", "b"))
    found = value(loss, [one, two], [other, too])
    if not kind.needs_parts:  # trained parts start anew for each pair
        assert found == pytest.approx(value(kind(), one, other) + value(kind(), two, too), rel=1e-5)
    assert np.isfinite(found) and found != pytest.approx(value(kind(), one, other), rel=1e-3)
    with pytest.raises(ValueError, match=f"{kind.__name__}: expected features of 2 layers .* Received: 2 of the teacher's and 1"):
        ready(loss, [one, two], [other, too]).compute_loss([one, two], [other])
    with pytest.raises(ValueError, match="`student_layer_name`: expected as many layers as `teacher_layer_name` has, 2"):
        kind(teacher_layer_name=("a", "b"), student_layer_name="a")


@family
@pytest.mark.parametrize(("size", "other"), [(8, 4), (4, 8), (7, 5)])
def test_features_of_other_sizes_and_channels(kind: Kind, size: int, other: int) -> None:
    teacher, student = features(8, size, size, 6, seed=1), features(8, other, other, 4, seed=2)
    found, slope, parts = gradients(kind(), teacher, student)
    assert np.isfinite(found) and found != 0 and np.isfinite(slope).all() and slope.any()
    assert all(np.isfinite(part).all() for part in parts) and any(part.any() for part in parts) == bool(parts)
    assert bool(parts) == (kind.projects or kind.needs_parts)
    if kind.matches and size == 8:
        blocks = teacher.reshape(8, 4, 2, 4, 2, 6).mean((2, 4))
        assert found == pytest.approx(value(kind(), blocks, student), rel=1e-4)


@family
def test_features_of_other_ranks(kind: Kind) -> None:
    teacher, student = features(8, 4, 4, 6, seed=1), features(8, 5, seed=2)
    if kind.__name__ in NEEDS_POSITIONS:
        with pytest.raises(ValueError, match=rf"{kind.__name__} .*features \[batch, ..., channels\].*\(8, 5\)|{kind.__name__} .*rank 3"):
            value(kind(), teacher, student)
        return
    for own, other in ((teacher, student), (student, teacher)):
        found, slope, _ = gradients(kind(), own, other)
        assert np.isfinite(found) and np.isfinite(slope).all() and slope.any()


@family
def test_batches_of_any_size_in_one_graph(kind: Kind) -> None:
    teacher, student = maps()
    shape = tf.TensorSpec((None, 4, 4, 6), "float32")
    traces = []
    for count in (8, 3):
        copy = ready(kind(), teacher, student)

        @tf.function(input_signature=[shape, shape, tf.TensorSpec((None,), "int32")])
        def compute(own: tf.Tensor, other: tf.Tensor, rows: tf.Tensor, copy: FeatureLoss = copy) -> tf.Tensor:
            traces.append(1)
            return copy.compute_loss(own, other, rows=rows)

        found = compute(teacher[:count], student[:count], np.arange(count, dtype="int32"))
        assert float(found) == pytest.approx(value(kind(), teacher[:count], student[:count]), rel=1e-4)
    assert len(traces) == 2


@family
def test_a_loss_learns(kind: Kind) -> None:
    """Descent on the student's features, and on the loss's parts, makes it smaller."""
    teacher, student = maps()
    copy, variable = ready(kind(), teacher, student), keras.Variable(student)
    trained = [variable, *(weight for part in copy.parts for weight in part.trainable_weights)]
    optimizer, found = keras.optimizers.Adam(0.03), []
    for _ in range(8):
        with tf.GradientTape() as tape:
            loss = copy.compute_loss(teacher, tf.convert_to_tensor(variable.value), rows=np.arange(8, dtype="int32"))
        optimizer.apply(tape.gradient(loss, [weight.value for weight in trained]), trained)
        found.append(float(loss))
    assert found[-1] < found[0]


def pair(width: int, size: int = 6) -> tuple[keras.Model, keras.Model]:
    def model(channels: int) -> keras.Model:
        layers = [
            keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name="conv"),
            keras.layers.GlobalAveragePooling2D(name="pooled"),
            keras.layers.Dense(4, name="head"),
        ]
        return keras.Sequential([keras.Input((6, 6, 1)), *layers])

    return model(size), model(width)


@family
def test_inside_keras_own_distiller(kind: Kind) -> None:
    x, y = features(16, 6, 6, 1), np.arange(16) % 4

    def distilled(loss: FeatureLoss, width: int) -> Any:
        teacher, student = pair(width)
        distiller = keras.distillation.Distiller(teacher, student, loss)
        distiller.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return distiller.fit(x, y, batch_size=6, epochs=1, verbose=0).history["distillation_loss"]

    loss = kind(teacher_layer_name="conv", student_layer_name="conv")
    if kind.needs_parts:
        with pytest.raises(ValueError, match=f"{kind.__name__} trains parts of its own, which only kdfuse does. Use it in kdfuse.Distill"):
            distilled(loss, 6)
    else:
        found = distilled(loss, 6)
        assert np.isfinite(found).all() and found[0] > 0
    if kind.projects:
        with pytest.raises(ValueError, match=f"{kind.__name__}: the teacher's features have 6 channels, the student's 3. In kdfuse"):
            distilled(loss, 3)
    for names, text in ((("conv1", "conv"), "Did you mean 'conv'"), ((None, None), "head's input"), ((("conv", "head"),) * 2, "several")):
        with pytest.raises(ValueError, match=f"`teacher_layer_name`: keras.distillation.Distiller takes the name of one layer.*{text}"):
            distilled(kind(teacher_layer_name=names[0], student_layer_name=names[1]), 6)


@family
def test_a_second_teachers_copy(kind: Kind) -> None:
    first = kind().attached()
    second = kind().attached(sharing=first)
    assert second is not first and second.get_config() == first.get_config()
    first.build([(None, 4, 4, 6)], [(None, 4, 4, 3)], rows=8)
    second.build([(None, 4, 4, 9)], [(None, 4, 4, 3)], rows=8)
    assert not {id(part) for part in first.parts} & {id(part) for part in second.parts}
    first.check_head({"a": "softmax", "b": "regression"})
