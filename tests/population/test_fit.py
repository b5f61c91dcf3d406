"""Training at once gives what training one after another gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.models.mlp import mlp
from kdfuse.population.fit import fit_together, why_not
from kdfuse.settings import replace
from kdfuse.train import Train

DIGITS = load("digits", labels=203)
X, Y, _ = DIGITS.train.head(10**6)
RNG = np.random.default_rng(0)
FAST = Train(epochs=2, batch_size=32, checkpoint=0)


def pair(data, training, rows=None, seeds=(3, 8)):
    """Models trained at once, models trained one after another, and the curves of both."""
    given = [mlp(data, units=(12,), seed=seed) for seed in seeds]
    together = [training.private(one, data) for one in given]
    assert why_not(together, data, training) is None
    curves = fit_together(together, data, training, rows, seeds)
    apart, histories = [], []
    for place, (one, seed) in enumerate(zip(given, seeds, strict=True)):
        own = data if rows is None else data.with_splits(train=data.train.take(rows[place]))
        student = training.private(one, own)
        histories.append(replace(training, {"seed": seed}).fit(student, own).history)
        apart.append(student)
    return together, apart, curves, histories


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"optimizer": "momentum", "learning_rate": 0.05, "decay": "cosine", "l2": 1e-2}, {"optimizer": "rmsprop", "batch_size": 200},
        {"optimizer": "adamw", "decay": "exponential"},
    ],
)  # fmt: skip
def test_the_weights_are_those_of_training_one_after_another(changes):
    together, apart, curves, histories = pair(DIGITS, replace(FAST, changes))
    for one, other in zip(together, apart, strict=True):
        for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)
    for curve, history in zip(curves, histories, strict=True):
        for name in ("train/loss", "validation/loss"):
            np.testing.assert_allclose(curve[name], history[name], rtol=1e-4)


def test_rows_and_sample_weights_of_their_own():
    weights = RNG.random(len(X)).astype("float32")
    data = DIGITS.with_splits(train=(X, Y, weights))
    rows = [RNG.integers(len(X), size=70) for _ in range(2)]
    together, apart, curves, histories = pair(data, FAST, rows)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.get_weights()[0], other.get_weights()[0], atol=1e-5)
    np.testing.assert_allclose(curves[0]["validation/loss"], histories[0]["validation/loss"], rtol=1e-4)


@pytest.mark.parametrize("task", ["binary", "regression", "one-hot"])
def test_other_losses(task):
    x = RNG.normal(size=(60, 4)).astype("float32")
    y = {"binary": (x[:, :1] > 0).astype(int), "regression": x[:, :2] * 3, "one-hot": np.eye(3)[x[:, :3].argmax(1)]}[task]
    together, apart, _, _ = pair(Data(train=(x, y), validation=(x, y)), FAST)
    np.testing.assert_allclose(together[1].get_weights()[0], apart[1].get_weights()[0], atol=1e-5)


def test_a_member_that_diverges_leaves_the_others_alone():
    models = [mlp(DIGITS, units=(12,), seed=seed) for seed in (3, 8)]
    alone = [FAST.private(models[0], DIGITS)]
    fit_together(alone, DIGITS, FAST, None, (3,))
    broken = FAST.private(models[1], DIGITS)
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    both = [FAST.private(models[0], DIGITS), broken]
    curves = fit_together(both, DIGITS, FAST, None, (3, 8))
    np.testing.assert_allclose(both[0].get_weights()[0], alone[0].get_weights()[0], atol=1e-6)
    assert np.isnan(curves[1]["train/loss"]).all() and np.isfinite(curves[0]["train/loss"]).all()


def test_what_cannot_be_trained_at_once_is_told():
    models = [mlp(DIGITS, units=(12,))]
    stream = Data(tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), class_names=[str(one) for one in range(10)])
    for training, data, words in (
        (Distill(models[0]), DIGITS, "not Train"), (replace(FAST, {"class_weight": "balanced"}), DIGITS, "class_weight"),
        (replace(FAST, {"precision": "mixed_float16"}), DIGITS, "precision"), (replace(FAST, {"decay": "plateau"}), DIGITS, "own curve"),
        (replace(FAST, {"optimizer": keras.optimizers.Adam(clipnorm=1.0)}), DIGITS, "own gradient"), (FAST, stream, "no single array"),
    ):  # fmt: skip
        assert words in why_not(models, data, training)
