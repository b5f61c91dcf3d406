"""Parallel on real digits: one model of several."""

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.combiners.hard_vote import HardVote
from kdfuse.ensemble.combiners.logit_mean import LogitMean
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.combiners.weighted import Weighted
from kdfuse.ensemble.parallel.parallel import Parallel
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.settings import flatten
from kdfuse.train import Train

L = keras.layers
DIGITS = load("digits", labels=200)
BARE = DIGITS.with_splits(validation=None, test=None)
SHAPE = DIGITS.input_shape


def net(seed, activation=None, name="net", dtype=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input(SHAPE), L.Flatten(), L.Dense(12, "relu", dtype=dtype), L.Dense(10, activation, dtype=dtype)], name=name
    )


@pytest.fixture(scope="module")
def models():
    return [
        Train(epochs=3 + 3 * seed, seed=seed, checkpoint=0).apply(net(seed, "softmax" if seed == 1 else None), BARE).model
        for seed in range(3)
    ]


@pytest.fixture(scope="module")
def test_rows():
    x, y, _ = DIGITS.test.head(10**6)
    return x, y


def chances(models, x):
    return [np.asarray(keras.ops.softmax(one(x)) if place != 1 else one(x)) for place, one in enumerate(models)]


def test_the_mean_of_logits_and_softmaxes_is_that_of_their_probabilities(models, test_rows):
    x, y = test_rows
    before = [fingerprint(one) for one in models]
    committee, report = Parallel()(models, DIGITS)
    want = np.mean(chances(models, x), axis=0)
    np.testing.assert_allclose(committee.predict(x, verbose=0), want, atol=1e-5)
    assert report.metrics["test/accuracy"] == pytest.approx(np.mean(want.argmax(-1) == y))
    assert report.metrics["test/log_loss"] == pytest.approx(log_loss(y, want), rel=1e-4)
    assert report.metrics["cost/macs"] == sum(row["cost/macs"] for row in report.rows()[1:])
    assert [fingerprint(one) for one in models] == before and all(one.name == "net" for one in models)


def test_fitted_weights_are_no_worse_on_validation_and_told(models):
    _, plain = Parallel()(models, DIGITS)
    for fit in ("greedy", "convex"):
        _, report = Parallel(Weighted(fit=fit))(models, DIGITS)
        rows = report.tables["weights"]
        assert [row["model"] for row in rows] == ["1: net", "2: net_2", "3: net_3"]
        assert sum(row["weight"] for row in rows) == pytest.approx(1)
        assert (
            report["validation/log_loss"]
            <= min(plain["validation/log_loss"], *(row["validation/log_loss"] for row in report.rows())) + 1e-6
        )
    given, report = Parallel(Weighted((0, 0, 2)))(models, DIGITS)
    np.testing.assert_allclose(given(SAMPLE), keras.ops.softmax(models[2](SAMPLE)), atol=1e-6)


SAMPLE = DIGITS.example(7)


def test_it_is_saved_loaded_nested_and_taught_from(models, test_rows, tmp_path):
    x, _ = test_rows
    committee, _ = Parallel()(models, DIGITS)
    nested, report = Parallel(HardVote())([committee, models[0], committee], DIGITS)
    committee.save(tmp_path / "committee.keras")
    # That a new process knows the layers is the matter of tests/test_registration.py.
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "committee.keras")(x[:50]), committee(x[:50]), atol=1e-6)
    votes = np.asarray(nested(x[:50]))
    assert set(np.unique(votes.round(4))) <= {0, np.float32(1 / 3).round(4), np.float32(2 / 3).round(4), 1}
    assert [row["model"] for row in report.rows()] == ["ensemble", "member 1", "net", "member 3"]
    student, taught = Distill(committee, training=Train(epochs=1))(net(9), DIGITS)
    assert taught.metrics["kd/agreement"] > 0 and student.output_shape == (None, 10)


def test_logits_are_given_as_logits(models):
    made, report = Parallel(LogitMean())(models[::2], DIGITS)
    np.testing.assert_allclose(made(SAMPLE), (np.asarray(models[0](SAMPLE)) + np.asarray(models[2](SAMPLE))) / 2, rtol=1e-4, atol=1e-5)
    assert report["test/log_loss"] > 0


def test_logits_that_look_like_probabilities_are_logits(test_rows):
    x, y = test_rows
    half, small = keras.initializers.Constant(0.5), keras.initializers.RandomNormal(stddev=0.01, seed=0)
    mild = [keras.Sequential([keras.Input(SHAPE), L.Flatten(), L.Dense(10, None, True, small, half)]) for _ in range(2)]
    made, report = Parallel(LogitMean())(mild, DIGITS)
    given = np.asarray(made(x), "float64")
    assert given.min() > 0 and given.max() < 1
    want = np.exp(given) / np.exp(given).sum(-1, keepdims=True)
    assert report["test/log_loss"] == pytest.approx(log_loss(y, want), rel=1e-4)


def test_the_count_in_a_combiners_name_is_no_setting():
    first, second = (flatten(Parallel(Weighted())) for _ in range(2))
    assert first == second and "combiner__name" not in first
    assert flatten(Parallel(Mean(name="mine")))["combiner__name"] == "mine"


def test_members_of_other_precision_are_combined_in_float32(models):
    half = net(0, dtype="mixed_float16")
    half.set_weights(models[0].get_weights())
    made, _ = Parallel()([half, models[2]], DIGITS)
    want = np.mean([np.asarray(keras.ops.softmax(one(SAMPLE))) for one in (models[0], models[2])], axis=0)
    np.testing.assert_allclose(made(SAMPLE), want, atol=5e-3)
    assert keras.backend.standardize_dtype(made(SAMPLE).dtype) == "float32"


def test_several_outputs_and_regressions():
    x = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    labels = {"sign": (x[:, :1] > 0).astype(int), "sum": x.sum(1, keepdims=True)}

    def build(seed):
        keras.utils.set_random_seed(seed)
        given = keras.Input((5,))
        return keras.Model(given, {"sign": L.Dense(1, "sigmoid", name="sign")(given), "sum": L.Dense(1, name="sum")(given)})

    data = Data(train=(x, labels), validation=(x, labels), test=(x, labels))
    made, report = Parallel(Weighted())([build(0), build(1)], data)
    weights = report.tables["weights"]
    assert set(weights[0]) == {"model", "sign", "sum"} and sum(row["sum"] for row in weights) == pytest.approx(1)
    each = [build(seed)(x) for seed in (0, 1)]
    want = sum(row["sum"] * np.asarray(one["sum"]) for row, one in zip(weights, each, strict=True))
    np.testing.assert_allclose(made(x)["sum"], want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="HardVote combines softmax or sigmoid. Received: members with the head regression"):
        Parallel(HardVote())([build(0), build(1)], data)


def test_what_cannot_be_is_said_before(models):
    without = Data(train=(SAMPLE, np.arange(7)), class_names=[str(one) for one in range(10)])
    with pytest.raises(ValueError, match="`data` of Parallel: Weighted is fitted on the validation split. Received: none"):
        Parallel(Weighted())(models, without)
    with pytest.raises(ValueError, match="`weights`: expected one for each of 3 members. Received: 2"):
        Parallel(Weighted((1, 2)))(models, DIGITS)
    for wrong in (Mean, "mean", None):
        with pytest.raises(TypeError, match="`combiner`: expected a kdfuse combiner"):
            Parallel(wrong)


def test_outputs_in_a_list_keep_their_names():
    x = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    labels = {"sign": (x[:, :1] > 0).astype(int), "sum": x.sum(1, keepdims=True)}

    def build(seed):
        keras.utils.set_random_seed(seed)
        given = keras.Input((5,))
        return keras.Model(given, [L.Dense(1, "sigmoid", name="sign")(given), L.Dense(1, name="sum")(given)], name="sign")

    data = Data(train=(x, labels), validation=(x, labels), test=(x, labels))
    for combiner in (Weighted(), Weighted((1, 3))):
        technique = Parallel(combiner)
        technique.check([build(0), build(1)], data)
        result = technique.apply([build(0), build(1)], data)
        assert result.model.output_names == ["sign", "sum"]
        assert [set(row) for row in result.tables["weights"]] == [{"model", "sign", "sum"}] * 2
        assert [note.split(" fitted")[0] for note in result.notes] == (["Weights of 'sign'", "Weights of 'sum'"] if combiner.fitted else [])


def test_fitted_weights_are_a_note(models):
    result = Parallel(Weighted(rounds=1)).apply(models, DIGITS)
    assert len(result.notes) == 1 and "fitted on the validation split; 1 of 3 members have one: " in result.notes[0]


def test_who_cannot_be_combined(models):
    with pytest.raises(ValueError, match="`model` of Parallel: expected 2 or more models"):
        Parallel()(models[:1], DIGITS)
    keras.utils.set_random_seed(0)
    other = keras.Sequential([keras.Input(SHAPE), L.Flatten(), L.Dense(7)])
    with pytest.raises(ValueError, match="expected members with equal outputs"):
        Parallel()([models[0], other], DIGITS)


def test_members_that_take_pixels_and_members_that_take_floats():
    def build(dtype):
        given = keras.Input((6,), dtype=dtype)
        return keras.Model(given, L.Dense(3)(L.Rescaling(1 / 255)(given)))

    rng = np.random.default_rng(0)
    for x in (rng.integers(0, 255, (40, 6)).astype("uint8"), (rng.random((40, 6)) * 255).astype("float32")):
        pair = [build("uint8"), build("float32")]
        made = Parallel().apply(pair, Data(train=(x, np.arange(40) % 3))).model
        np.testing.assert_allclose(made(x), np.mean([keras.ops.softmax(one(x)) for one in pair], axis=0), atol=1e-6)
