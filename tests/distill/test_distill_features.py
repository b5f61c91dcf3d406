"""Distill with losses on features, several teachers, schedules, augmentation and caches, on real digits."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.distill import cache as kept
from kdfuse.distill.cache import Cache
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.hints import Hints
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.schedules import Schedule
from kdfuse.fitting.decay import Constant, Linear
from kdfuse.settings import replace
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 8, 8, 1)
FAST = Train(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)
HINTS = Hints("stem", "small")


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    kept.forget()


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(train=(X[:500], Y[:500]), test=(X[500:700], Y[500:700]), name="digits")


def convnet(filters: int, layer: str, seed: int = 0, size: int = 8) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 1))
    hidden = keras.layers.Conv2D(filters, 3, strides=1 if filters > 8 else 2, activation="relu", name=layer)(inputs)
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(filters, 3, activation="relu")(hidden))
    return keras.Model(inputs, keras.layers.Dense(10)(hidden), name="big" if filters > 8 else "little")


@pytest.fixture(scope="module")
def teachers(data: Data) -> tuple[keras.Model, ...]:
    training = replace(FAST, {"epochs": 4})
    return tuple(training.apply(convnet(16, "stem", seed), data).model for seed in (1, 2))


def student() -> keras.Model:
    return convnet(4, "small")


def weights(technique: Any, data: Data, given: keras.Model | None = None) -> list[np.ndarray]:
    """Of what is trained, without a report."""
    return [np.array(weight) for weight in technique.apply(given or student(), data).model.get_weights()]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def close(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(one, other, strict=True))


def test_features_live_and_kept_give_one_student(teachers: Any, data: Data, tmp_path: Path) -> None:
    distil = Distill(teachers[0], losses=[HINTS, SoftTargets()], loss_weights=(5.0, 0.5), training=FAST)
    given = student()
    made, report = distil(given, data)
    assert [layer.name for layer in made.layers] == [layer.name for layer in given.layers]
    assert made.count_params() == given.count_params()
    assert report.history["train/hints_loss"][1] < report.history["train/hints_loss"][0]
    made.save(tmp_path / "student.keras")
    assert keras.saving.load_model(tmp_path / "student.keras").count_params() == made.count_params()
    found = made.get_weights()
    assert close(found, weights(replace(distil, {"cache": False}), data)) and same(found, weights(replace(distil, {"cache": "disk"}), data))
    half = weights(replace(distil, {"cache": Cache(dtype="float16")}), data)
    assert not same(found, half) and max(np.abs(a - b).max() for a, b in zip(found, half, strict=True)) < 0.05
    assert not same(found, weights(replace(distil, {"losses": (SoftTargets(), SoftTargets()), "loss_weights": (5.0, 0.5)}), data))


def test_the_features_before_the_head_are_the_default(teachers: Any, data: Data) -> None:
    made = Distill(teachers[0], losses=[Hints()], training=FAST).apply(student(), data)
    assert np.isfinite(made.history["train/hints_loss"]).all() and made.model.count_params() == student().count_params()


def test_an_interrupted_call_keeps_its_projectors(teachers: Any, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    distil = Distill(teachers[0], losses=[HINTS], training=Train(epochs=4, batch_size=64, decay="cosine"),
                     schedules=[Schedule("loss_weights__0", Linear())])  # fmt: skip
    undisturbed = weights(distil, data)
    log = recording.Run.log

    def stop(run: recording.Run, values: Any, step: int | None = None) -> None:
        log(run, values, step)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recording.Run, "log", stop)
        distil(student(), data)
    made, report = distil(student(), data)
    assert any("Resumed" in note for note in report.notes) and same(undisturbed, made.get_weights())


def test_several_teachers(teachers: Any, data: Data) -> None:
    distil = Distill(teachers, losses=[HINTS, SoftTargets()], training=FAST)
    made, report = distil(student(), data)
    assert [row["model"] for row in report.tables["models"]] == ["student", "teacher A", "teacher B"]
    assert "delta/teacher B/test/accuracy" in report.metrics and any("teachers' outputs" in note for note in report.notes)
    ours = made.predict(X[500:700], verbose=0).argmax(-1)
    shares = [(ours == one.predict(X[500:700], verbose=0).argmax(-1)).mean() for one in teachers]
    assert report["kd/agreement"] == pytest.approx(np.mean(shares), abs=1e-6)
    found = {
        weighting: weights(replace(distil, {"teacher_weights": weighting}), data) for weighting in ("entropy", "confidence", (3.0, 1.0))
    }
    assert not any(same(made.get_weights(), one) for one in found.values())
    assert not same(found["entropy"], found["confidence"])
    assert close(made.get_weights(), weights(replace(distil, {"teacher_weights": (2.0, 2.0)}), data))
    assert close(found["confidence"], weights(replace(distil, {"teacher_weights": "confidence", "cache": False}), data))


def test_a_teacher_of_another_size_and_scale(teachers: Any, data: Data) -> None:
    large = convnet(16, "stem", size=12)
    larger = keras.layers.Resizing(12, 12)
    distil = Distill(large, losses=[Hints("stem", "small"), SoftTargets()], training=FAST, teacher_preprocessing=larger)
    made, report = distil(student(), data)
    assert [row["model"] for row in report.tables["models"]] == ["student", "teacher"]
    other = keras.Sequential([larger, keras.layers.Rescaling(3.0)])
    assert not same(made.get_weights(), weights(replace(distil, {"teacher_preprocessing": other}), data))
    both = Distill((large, teachers[0]), losses=[HINTS], training=FAST, teacher_preprocessing=(larger, None))
    both.check(student(), data)
    assert both.apply(student(), data).history["train/hints_loss"][0] > 0


def test_a_teacher_of_features_alone_may_have_other_outputs(teachers: Any, data: Data) -> None:
    headless = keras.Model(teachers[0].inputs, teachers[0].layers[-2].output)
    made, report = Distill(headless, losses=[Hints("stem", "small")], training=FAST)(student(), data)
    assert [row["model"] for row in report.tables["models"]] == ["student"]
    assert any("is not measured" in note for note in report.notes) and made.count_params() == student().count_params()


def test_schedules_change_the_student(teachers: Any, data: Data) -> None:
    distil = Distill(teachers[0], training=FAST)
    plain = weights(distil, data)
    for setting in ("label_weight", "loss_weights__0", "losses__0__temperature"):
        scheduled = replace(distil, {"schedules": (Schedule(setting, Constant(warmup=1.0)),)})
        assert not same(plain, weights(scheduled, data))
    stream = Data(train=tf.data.Dataset.from_tensor_slices((X[:500], Y[:500])).batch(64))
    assert not same(weights(distil, stream), weights(replace(distil, {"schedules": (Schedule("label_weight", Linear()),)}), stream))


def test_augmentation_reaches_teacher_and_student_alike(teachers: Any, data: Data) -> None:
    shift = keras.layers.RandomTranslation(0.2, 0.2, fill_mode="constant")
    distil = Distill(teachers[0], losses=[HINTS, SoftTargets()], training=replace(FAST, {"augment": shift}))
    made = distil.apply(student(), data)
    assert any("ran in every step" in note for note in made.notes)
    fixed = replace(distil, {"cache": Cache(views=2)}).apply(student(), data)
    assert any("computed once" in note for note in fixed.notes)
    made, fixed = made.model, fixed.model
    plain = weights(replace(distil, {"training__augment": None}), data)
    assert (
        not same(made.get_weights(), fixed.get_weights()) and not same(plain, made.get_weights()) and not same(plain, fixed.get_weights())
    )
    one_view = weights(replace(distil, {"cache": Cache(views=1)}), data)
    assert not same(one_view, fixed.get_weights())


def test_mixed_precision_student_of_a_float32_teacher(teachers: Any, data: Data) -> None:
    distil = Distill(teachers[0], losses=[HINTS, SoftTargets()], training=replace(FAST, {"precision": "mixed_float16"}))
    made = distil.apply(student(), data)
    assert np.isfinite(made.history["train/loss"]).all() and made.model.layers[1].compute_dtype == "float32"


def test_sequences_with_masks_and_weights(data: Data) -> None:
    rows = np.random.default_rng(0)
    x = rows.integers(1, 20, (64, 7))
    x[:, 5:] = 0
    y = (x % 3).astype("int32")
    made = Data(train=(x, y, rows.uniform(0.5, 1, (64, 7)).astype("float32")), test=(x, y))

    def tagger(units: int) -> keras.Model:
        inputs = keras.Input((7,), dtype="int32")
        hidden = keras.layers.Embedding(20, units, mask_zero=True)(inputs)
        hidden = keras.layers.GRU(units, return_sequences=True, name="gru")(hidden)
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    teacher = FAST.apply(tagger(12), made).model
    given, report = Distill(teacher, losses=[SoftTargets(), Hints("gru", "gru")], training=FAST)(tagger(4), made)
    assert np.isfinite(report.history["train/hints_loss"]).all() and given.count_params() == tagger(4).count_params()


def test_compiled_by_xla(teachers: Any, data: Data) -> None:
    training = replace(FAST, {"jit": True, "steps_per_execution": 4})
    distil = Distill(teachers[0], losses=[HINTS, SoftTargets()], training=training)
    assert close(weights(distil, data), weights(replace(distil, {"training__jit": False}), data))
