"""Cluster: few values, zeros that stay, the settings, what is refused."""

from typing import Any

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.compress.cluster import Cluster
from kdfuse.compress.held import is_kernel
from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.technique import Chain
from kdfuse.train import Train

L = keras.layers
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 8, 8, 1)
FAST = Train(epochs=1, learning_rate=1e-4, batch_size=64, checkpoint=0)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(train=(X[:1000], Y[:1000]), validation=(X[1000:1300], Y[1000:1300]), test=(X[1300:], Y[1300:]))


@pytest.fixture(scope="module")
def model(data: Data) -> keras.Model:
    keras.utils.set_random_seed(0)
    given = keras.Input((8, 8, 1))
    x = L.BatchNormalization()(L.Conv2D(6, 3, activation="relu", name="conv")(given))
    x = L.Flatten()(L.DepthwiseConv2D(3, name="depthwise")(x))
    made = keras.Model(given, L.Dense(10, name="head")(L.Dense(32, "relu", name="mid")(x)))
    return Train(epochs=8, learning_rate=0.005, checkpoint=0).apply(made, data).model


def sparse(model: keras.Model) -> keras.Model:
    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    kernel = made.get_layer("mid").kernel
    kernel.assign(np.where(np.abs(kernel) > np.quantile(np.abs(kernel), 0.7), kernel, 0.0))
    return made


def counts(model: keras.Model) -> dict[str, int]:
    return {layer.name: len(np.unique(layer.kernel)) for layer in model.layers if hasattr(layer, "kernel")}


def test_kernels_share_values_and_accuracy_stays(model: keras.Model, data: Data) -> None:
    before, plain = fingerprint(model), model.evaluate(X[1300:], Y[1300:], verbose=0)[1]
    made, report = Cluster()(model, data)
    assert fingerprint(model) == before and made.count_params() == model.count_params()
    found = counts(made)
    assert max(found["conv"], found["mid"], found["head"]) <= 16 and found["depthwise"] == 54
    assert report["test/accuracy"] >= plain - 0.01 and report["cluster/most_values"] <= 16
    rows = {row["layer"]: row for row in report.tables["clusters"]}
    assert rows["mid"]["values"] == found["mid"] and rows["mid"]["values_before"] > 500 and rows["mid"]["clusters"] == 16
    assert rows["depthwise"]["clusters"] is None and "does not cluster" in rows["depthwise"]["note"]
    assert not np.array_equal(made.get_layer("mid").bias, model.get_layer("mid").bias)


def test_zeros_stay_and_count_as_a_value(model: keras.Model, data: Data) -> None:
    given = sparse(model)
    zeros = given.get_layer("mid").kernel.numpy() == 0
    made = Cluster(6, training=FAST).apply(given, data).model
    kernel = made.get_layer("mid").kernel.numpy()
    assert np.all(kernel[zeros] == 0) and len(np.unique(kernel)) <= 6
    other = Cluster(6, keep_sparsity=False, training=Train(epochs=1, learning_rate=0.01, checkpoint=0)).apply(given, data).model
    assert np.mean(other.get_layer("mid").kernel.numpy() == 0) < 0.1


def test_settings_of_single_layers(model: keras.Model, data: Data) -> None:
    made, report = Cluster(8, layers={"head": None, "c*v": 4}, training=None)(model, data)
    assert counts(made)["conv"] <= 4 and counts(made)["mid"] <= 8 and counts(made)["head"] > 200
    assert {row["layer"]: row["note"] for row in report.tables["clusters"]}["head"] == "left out in `layers`"
    for layer in ("nobody", "depthwise"):
        with pytest.raises(ValueError, match=f"`layers`.*'{layer}'.*head"):
            Cluster(8, layers={layer: 4})(model, data)


def test_without_training_only_kernels_change(model: keras.Model, data: Data) -> None:
    made, report = Cluster(8, training=None)(model, data)
    assert np.array_equal(made.get_layer("mid").bias, model.get_layer("mid").bias)
    assert any("without training" in note for note in report.notes)
    kernel, given = made.get_layer("mid").kernel.numpy(), model.get_layer("mid").kernel.numpy()
    centroids = np.unique(kernel)
    assert np.allclose(np.abs(given - kernel), np.abs(given[..., None] - centroids).min(-1), atol=1e-6)
    assert all(abs(given[kernel == one].mean() - one) < 1e-3 for one in centroids)


def test_every_setting_counts(model: keras.Model, data: Data) -> None:
    found: list[Any] = [
        Cluster(8, init, training=None).apply(model, data).model.get_layer("mid").kernel.numpy()
        for init in ("kmeans++", "linear", "density")
    ]
    for training in (FAST, Distill(model, training=FAST)):
        found.append(Cluster(8, training=training).apply(model, data).model.get_layer("mid").kernel.numpy())
    for place, one in enumerate(found):
        assert all(not np.array_equal(one, other) for other in found[:place])


def test_what_has_few_values_already_is_left(model: keras.Model, data: Data) -> None:
    once = Cluster(4, training=None).apply(model, data).model
    result = Cluster(8, training=None).apply(once, data)
    assert counts(result.model) == counts(once)
    assert all("has no more than 8 values" in row["note"] for row in result.tables["clusters"] if row["layer"] != "depthwise")


class Own(L.Dense):
    pass


def test_what_is_refused(model: keras.Model, data: Data) -> None:
    for given, error, said in (
        ({"clusters": 1}, ValueError, "`clusters`"), ({"clusters": 2.5}, ValueError, "`clusters`"),
        ({"init": "random"}, ValueError, "`init`"),
        ({"layers": ["head"]}, TypeError, "`layers`"), ({"layers": {"head": 1}}, ValueError, r"layers\['head'\]"),
        ({"keep_sparsity": 0.5}, ValueError, "`keep_sparsity`"), ({"training": 3}, TypeError, "`training`"),
        ({"training": Train(strategy="mirrored")}, ValueError, "strategy"), ({"opaque": ["a", 1]}, TypeError, "`opaque`"),
    ):  # fmt: skip
        with pytest.raises(error, match=said):
            Cluster(**given)
    with pytest.raises(ValueError, match=r"'mid' has zeros to keep.*at least 3"):
        Cluster(2)(sparse(model), data)
    _, report = Chain([Train(epochs=1), Cluster(2, training=None)])(sparse(model), data)  # no zeros are left by then
    assert report.children[1].metrics["cluster/most_values"] == 2
    own = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), Own(10, name="own")])
    with pytest.raises(ValueError, match="no layer with a kernel"):
        Cluster(4)(own, data)
    with pytest.raises(ValueError, match="'own' of class Own"):
        Cluster(4, opaque=())(own, data)


def test_recurrent_attention_and_embeddings(data: Data) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 30, (64, 7)).astype("int32")
    given = keras.Input((7,), dtype="int32")
    x = L.Embedding(30, 8, name="embedding")(given)
    x = L.MultiHeadAttention(2, 4, name="attention")(x, x)
    made, report = Cluster(4, training=FAST)(
        keras.Model(given, L.Dense(3, name="head")(L.LSTM(6, name="lstm")(x))), Data(train=(ids, rng.integers(0, 3, 64)), validation=0.2)
    )
    assert all(row["values"] <= 4 for row in report.tables["clusters"]) and len(report.tables["clusters"]) == 8
    assert all(len(np.unique(weight)) <= 4 for weight in made.weights if is_kernel(weight))
