"""Outputs of every head as probabilities and as logits."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from kdfuse.ensemble.values import Logits, Probabilities, head_of_probabilities
from kdfuse.graph.heads import probabilities

Z = np.random.default_rng(0).normal(size=(6, 4)).astype("float32") * 3
SIGMOID = 1 / (1 + np.exp(-Z))
SOFTMAX = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("head", "given", "chances"),
    [
        ("logits", Z, SOFTMAX), ("softmax", SOFTMAX, SOFTMAX), ("sigmoid", SIGMOID, SIGMOID), ("sigmoid_logits", Z, SIGMOID),
        ("logits", Z[:, :1], SIGMOID[:, :1]), ("regression", Z, Z),
    ],
)  # fmt: skip
def test_probabilities_and_back(head, given, chances):
    made = np.asarray(Probabilities(head)(given))
    np.testing.assert_allclose(made, chances, rtol=1e-5)
    if head != "regression":
        np.testing.assert_allclose(made, np.asarray(probabilities(given, head)).reshape(made.shape), rtol=1e-5)
    logits = np.asarray(Logits(head)(given))
    want = head_of_probabilities(head, given.shape[-1])
    again = {"softmax": lambda: np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), "sigmoid": lambda: 1 / (1 + np.exp(-logits))}
    np.testing.assert_allclose(again.get(want, lambda: logits)(), chances, rtol=1e-4)


def test_certainty_stays_finite_and_half_precision_is_read_as_float32():
    sure = np.array([[1.0, 0.0]], "float32")
    for head in ("softmax", "sigmoid"):
        assert np.isfinite(np.asarray(Logits(head)(sure))).all()
    assert keras.backend.standardize_dtype(Probabilities("logits")(Z.astype("float16")).dtype) == "float32"
    with pytest.raises(ValueError, match="head"):
        Probabilities("tanh")
    assert Logits.from_config(Logits("sigmoid").get_config()).head == "sigmoid"


@pytest.mark.slow  # tests/test_registration.py does the like
def test_layers_are_registered_whatever_of_kdfuse_is_loaded_first():
    code = "import kdfuse.graph.heads, keras; print('kdfuse>Probabilities' in keras.saving.get_custom_objects())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stdout.strip() == "True"
