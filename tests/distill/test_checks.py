"""What `Distill` refuses, beyond the cases of test_distill.py: the settings of many teachers, schedules, cache and layers."""

from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.distill.cache import Cache
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.crd import CRD
from kdfuse.distill.losses.hints import Hints
from kdfuse.distill.losses.logits_mse import LogitsMSE
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.schedules import Schedule
from kdfuse.train import Train

X = np.random.default_rng(0).standard_normal((40, 6)).astype("float32")
DATA = Data(train=(X, np.arange(40) % 4))
FOREIGN = keras.distillation.LogitsDistillation(loss="mse")


def mlp(units: int = 5, columns: int = 4, width: int = 6) -> keras.Model:
    layers = [keras.layers.Dense(units, "relu", name="hidden"), keras.layers.Dense(columns, name="head")]
    return keras.Sequential([keras.Input((width,)), *layers])


AUGMENT = Train(augment=keras.layers.GaussianNoise(0.1))
REFUSED = {
    "no teachers": ({"teacher": ()}, TypeError, "`teacher`: expected a trained keras.Model, or several"),
    "one is none": ({"teacher": (mlp(), "b.keras")}, TypeError, "`teacher`: expected a trained keras.Model of Keras 3. Received: str"),
    "weights of one": ({"teacher_weights": "entropy"}, ValueError, "`teacher_weights`: there is one teacher"),
    "too few weights": ({"teacher": (mlp(), mlp()), "teacher_weights": (1.0,)}, ValueError, "2 numbers from 0"),
    "unknown weights": ({"teacher": (mlp(), mlp()), "teacher_weights": "entropie"}, ValueError, "`teacher_weights`: expected one of"),
    "weights of samples": (
        {"teacher": (mlp(), mlp()), "teacher_weights": "entropy", "losses": [FOREIGN]},
        ValueError,
        "takes no weights of",
    ),
    "preprocessing": ({"teacher_preprocessing": abs}, TypeError, "`teacher_preprocessing`: expected a Keras layer"),
    "preprocessings": ({"teacher_preprocessing": (None, None)}, ValueError, "expected one for each of 1 teachers"),
    "teacher of another size": ({"teacher": mlp(width=9)}, ValueError, "another size or scale, give `teacher_preprocessing`"),
    "no schedule": ({"schedules": (0.5,)}, TypeError, "`schedules`: expected kdfuse.Schedule"),
    "schedule of nothing": ({"schedules": [Schedule("losses__0__temperatur")]}, ValueError, "Did you mean 'losses__0__temperature'"),
    "two schedules": ({"schedules": [Schedule("label_weight"), Schedule("label_weight")]}, ValueError, "is scheduled twice"),
    "schedule of 0": ({"label_weight": 0.0, "schedules": [Schedule("label_weight")]}, ValueError, "'label_weight' is 0, and stays so"),
    "views of nothing": ({"cache": Cache(views=2)}, ValueError, "`views` are of augmented inputs"),
    "cache of draws": ({"cache": "disk", "training": AUGMENT}, ValueError, "the teacher must see them in every step"),
    "memory on many devices": ({"losses": [CRD()], "training": Train(strategy="mirrored")}, ValueError, "memory of rows on one device"),
    "no such layer": ({"losses": [Hints("hiden", "hidden")]}, ValueError, "has no layer 'hiden'. Did you mean 'hidden'"),
    "no such student layer": ({"losses": [Hints("hidden", "hiden")]}, ValueError, "has no layer 'hiden'. Did you mean 'hidden'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*given: Any, **extra: Any) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(keras.Model, "fit", fit)
    change, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        Distill(**{"teacher": mlp(9), "losses": (SoftTargets(),), **change})(mlp(), DATA)


def test_a_regression_has_no_probabilities() -> None:
    values = Data(train=(X, X[:, :4]))
    teachers = (mlp(9), mlp(8))
    for weights in ("entropy", "confidence"):
        for loss in (LogitsMSE(), Hints("hidden", "hidden")):
            with pytest.raises(ValueError, match=f"`teacher_weights`: '{weights}' .* is on a regression"):
                Distill(teachers, losses=[loss], teacher_weights=weights).check(mlp(), values)
    with pytest.raises(ValueError, match="`top_k` of Cache: expected classes"):
        Distill(teachers[0], losses=[LogitsMSE()], cache=Cache(top_k=1)).check(mlp(), values)
    Distill(teachers, losses=[LogitsMSE()], teacher_weights=(1, 2)).check(mlp(), values)
    Distill(teachers, losses=[LogitsMSE()], teacher_weights="entropy", cache=Cache(top_k=1)).check(mlp(), DATA)
