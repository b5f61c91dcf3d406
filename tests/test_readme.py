"""The README's own losses do what it says of them."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kdfuse as kf

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_losses_of_ones_own() -> None:
    blocks = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "register_keras_serializable" in code]
    names: dict[str, Any] = {"keras": keras, "kf": kf}
    exec(blocks[0], names)
    data = kf.datasets.load("digits", labels=100)
    teacher = kf.models.convnet(data, filters=(12, 12), units=(), seed=1)
    losses = [names["AbsoluteError"](), names["CosineHints"]("conv_2", "conv_1")]
    technique = kf.Distill(teacher, losses=losses, training=kf.Train(epochs=4, learning_rate=0.02))
    _, report = technique(kf.models.convnet(data, filters=(4, 4), units=()), data)
    for curve in ("train/absolute_error_loss", "train/cosine_hints_loss"):
        assert report.history[curve][-1] < report.history[curve][0]
    features = np.random.default_rng(0).standard_normal((3, 5)).astype("float32")
    assert float(names["CosineHints"]().compute_loss(features, features)) < -0.999
