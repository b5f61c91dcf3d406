"""The vote of SAMME by hand; against scikit-learn it is tested with `Boost`."""

import keras
import numpy as np
import pytest

from kdfuse.ensemble.serial.samme_vote import SammeVote

P = np.random.default_rng(0).dirichlet(np.ones(3), (2, 8)).astype("float32")


def test_classes(tmp_path):
    layer, weights = SammeVote((3.0, 1.0)), (0.75, 0.25)
    decision = sum(weight * np.where(np.eye(3)[one.argmax(-1)] == 1, 1, -1 / 2) for weight, one in zip(weights, P, strict=True))
    grown = np.exp(decision / 2)
    np.testing.assert_allclose(layer(list(P)), grown / grown.sum(-1, keepdims=True), rtol=1e-5)
    inputs = [keras.Input((3,)), keras.Input((3,))]
    keras.Model(inputs, layer(inputs)).save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")(list(P)), layer(list(P)), rtol=1e-6)


def test_one_column_is_two_classes():
    yes = P[..., :1]
    both = np.asarray(SammeVote((3.0, 1.0))([np.concatenate([1 - one, one], -1) for one in yes]))
    np.testing.assert_allclose(SammeVote((3.0, 1.0), head="sigmoid")(list(yes)), both[:, 1:], rtol=1e-5)


def test_weights_must_fit():
    for wrong in ((), (1, 0), (1, float("inf"))):
        with pytest.raises(ValueError, match="`weights`: expected a number above 0"):
            SammeVote(wrong)
    with pytest.raises(ValueError, match="one for each of 2 members. Received: 1"):
        SammeVote((1.0,))(list(P))
