"""What every combiner must do."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kdfuse.ensemble.combiners.geometric_mean import GeometricMean
from kdfuse.ensemble.combiners.hard_vote import HardVote
from kdfuse.ensemble.combiners.logit_mean import LogitMean
from kdfuse.ensemble.combiners.maximum import Max
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.combiners.median import Median
from kdfuse.ensemble.combiners.trimmed_mean import TrimmedMean
from kdfuse.ensemble.combiners.weighted import Weighted
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import to_litert

MEMBERS, ROWS, CLASSES = 5, 7, 4
SHARES = (0.1, 0.3, 0.2, 0.25, 0.15)
FAMILY = {
    "mean": Mean, "weighted": lambda **given: Weighted(SHARES, **given), "geometric": GeometricMean, "logits": LogitMean, "median": Median,
    "trimmed": TrimmedMean, "max": Max, "vote": HardVote, "weighted vote": lambda **given: HardVote(SHARES, **given),
}  # fmt: skip


def logits_of(seed=0, shape=(ROWS, CLASSES)):
    return [np.random.default_rng([seed, place]).normal(size=shape).astype("float32") * 2 for place in range(MEMBERS)]


def given_to(combiner, logits):
    """What the combiner takes, of logits."""
    if combiner.of == "logits":
        return logits
    if combiner.head == "softmax":
        return [np.asarray(ops.softmax(one)) for one in logits]
    return [np.asarray(ops.sigmoid(one)) for one in logits] if combiner.head == "sigmoid" else logits


@pytest.fixture(params=[(name, head) for name, make in FAMILY.items() for head in make().heads], ids=lambda pair: "-".join(pair))
def combiner(request):
    name, head = request.param
    return FAMILY[name](head=head)


def test_it_gives_predictions_like_a_members(combiner):
    for shape in ((ROWS, CLASSES), (ROWS, 3, CLASSES), (1, 1)):
        if combiner.head == "softmax" and shape[-1] == 1:
            continue
        out = np.asarray(combiner(given_to(combiner, logits_of(shape=shape))))
        assert out.shape == shape and out.dtype == "float32" and np.isfinite(out).all()
        if combiner.head != "regression" and combiner.gives == "probabilities":
            assert out.min() >= 0 and out.max() <= 1 + 1e-6
            if combiner.head == "softmax":
                np.testing.assert_allclose(out.sum(-1), 1, rtol=1e-5)


def test_members_that_agree_are_left_as_they_are(combiner):
    one = given_to(combiner, logits_of())[0]
    if isinstance(combiner, HardVote):
        one = np.eye(CLASSES, dtype="float32")[one.argmax(-1)]
    want = one if combiner.of == combiner.gives else np.asarray(ops.softmax(one) if combiner.head == "softmax" else ops.sigmoid(one))
    np.testing.assert_allclose(combiner([one] * MEMBERS), want, atol=1e-6)


def test_the_order_of_the_members_matters_only_where_it_may(combiner):
    members = given_to(combiner, logits_of())
    forward, backward = np.asarray(combiner(members)), np.asarray(combiner(members[::-1]))
    weighted = combiner.weights_of(MEMBERS) is not None
    assert np.allclose(forward, backward, atol=1e-6) == (not weighted)
    if weighted:
        assert sum(combiner.weights_of(MEMBERS)) == pytest.approx(1) and min(combiner.weights_of(MEMBERS)) >= 0
        with pytest.raises(ValueError, match="`weights`: expected one for each of 2 members. Received: 5"):
            combiner(members[:2])


def test_the_gradient_is_finite_and_of_a_vote_there_is_none(combiner):
    members = [tf.Variable(one) for one in given_to(combiner, logits_of())]
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(combiner(members) ** 2)
    found = tape.gradient(value, members)
    assert all(one is None for one in found) if isinstance(combiner, HardVote) else all(np.isfinite(one).all() for one in found)
    if not isinstance(combiner, HardVote):
        assert sum(float(np.abs(one).sum()) for one in found) > 0


def test_float16_members_are_combined_in_float32(combiner):
    members = given_to(combiner, logits_of())
    halves = [one.astype("float16") for one in members]
    assert keras.backend.standardize_dtype(combiner([ops.convert_to_tensor(one) for one in halves]).dtype) == "float32"
    if not isinstance(combiner, HardVote):
        np.testing.assert_allclose(combiner(halves), combiner(members), atol=2e-2)


def test_a_model_with_it_is_saved_loaded_and_exported(combiner, tmp_path):
    inputs = [keras.Input((CLASSES,), name=f"m{place}") for place in range(MEMBERS)]
    model = keras.Model(inputs, combiner(inputs))
    members = given_to(combiner, logits_of())
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    want = np.asarray(model(members))
    np.testing.assert_array_equal(loaded(members), want)
    if combiner.head != combiner.heads[0]:  # one head of each is enough for the converter, which takes its time
        return
    path = tmp_path / "m.tflite"
    path.write_bytes(to_litert(model))
    np.testing.assert_allclose(LiteModel(path)(members), want, atol=1e-5)


def test_a_copy_for_another_head_has_the_same_settings(combiner):
    other = combiner.bound(combiner.head, "other")
    assert other.name == "other" and {**other.get_config(), "name": ""} == {**combiner.get_config(), "name": ""}
    if "regression" not in combiner.heads:
        with pytest.raises(ValueError, match="combines softmax or sigmoid. Received: members with the head regression"):
            combiner.bound("regression", "other")
