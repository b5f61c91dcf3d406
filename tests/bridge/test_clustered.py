"""Clustering: k-means against scikit-learn, which kernels TFMOT takes, and what is learnt."""

import keras
import numpy as np
import pytest
from sklearn.cluster import KMeans

from kdfuse.bridge.clustered import INITS, Share, clusterable, clustered, k_means, settle
from kdfuse.bridge.to_tf_keras import to_tf_keras

L = keras.layers


def test_k_means_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    values, first = rng.normal(size=(20, 30)), np.linspace(-2, 2, 6)
    found = k_means(values, first)
    theirs = KMeans(6, init=first[:, None], n_init=1, max_iter=1000, tol=0).fit(values.reshape(-1, 1))
    assert np.allclose(np.sort(found), np.sort(theirs.cluster_centers_[:, 0]), atol=1e-6)


def test_the_zero_centroid_keeps_its_place_and_takes_only_zeros() -> None:
    values = np.array([0.0, 0.0, 0.1, 0.2, 1.0, -1.0])
    found = k_means(values, np.array([-0.9, 0.05, 0.3, 0.9]), zero=1)
    assert found[1] == 0.0 and np.allclose(np.delete(found, 1), [-1.0, 0.15, 1.0])


def test_a_centroid_that_nothing_is_nearest_to_stays() -> None:
    assert np.allclose(k_means(np.array([1.0, 1.2]), np.array([1.1, 9.0])), [1.1, 9.0])


def sequence() -> keras.Model:
    given = keras.Input((7,), dtype="int32")
    x = L.Embedding(30, 8, name="embedding")(given)
    x = L.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = L.Bidirectional(L.GRU(5, return_sequences=True), name="both")(L.Conv1D(6, 3, name="conv")(x))
    return keras.Model(given, L.Dense(4, name="head")(L.LSTM(5, name="lstm")(x)))


def test_kernels_of_all_kinds_share_values() -> None:
    model = sequence()
    bridged = to_tf_keras(model)
    able = {path: len(clusterable(layers[0])) for path, layers in bridged.layers.items() if clusterable(layers[0])}
    assert able == {"embedding": 1, "attention": 4, "conv": 1, "both": 4, "lstm": 2, "head": 1}
    net = clustered(bridged, {layers[0].name: Share(4, False) for path, layers in bridged.layers.items() if path in able})
    found = settle(net)
    assert len(found) == 13 and all(len(np.unique(array)) <= 4 for _, array in found)
    assert all(mine.shape == array.shape and any(mine is weight for weight in model.weights) for mine, array in found)


@pytest.mark.parametrize("init", INITS)
def test_zeros_stay_and_every_value_is_the_nearest(init: str) -> None:
    given = keras.Input((20,))
    model = keras.Model(given, L.Dense(30, name="head")(given))
    kernel = model.get_layer("head").kernel
    kernel.assign(np.where(np.abs(kernel) < 0.15, 0.0, kernel))
    net = clustered(to_tf_keras(model), {"head": Share(6, True)}, init)
    ((mine, array),) = settle(net)
    assert mine is kernel and np.all(array[kernel.numpy() == 0] == 0) and len(np.unique(array)) <= 6
    centroids = np.unique(array)
    there = kernel.numpy()[kernel.numpy() != 0]
    nearest = np.abs(there[:, None] - centroids).min(1)
    assert np.allclose(np.abs(array[kernel.numpy() != 0] - there), nearest, atol=1e-6)


def test_depthwise_and_normalisation_have_no_clusters() -> None:
    given = keras.Input((8, 8, 2))
    bridged = to_tf_keras(keras.Model(given, L.BatchNormalization(name="norm")(L.SeparableConv2D(3, 3, name="sep")(given))))
    assert [len(clusterable(layer)) for layer in bridged.layers["sep"]] == [0, 1]
    assert clusterable(bridged.layers["norm"][0]) == []
