"""Weight clustering of a bridged model by TFMOT: its wrappers, their first centroids, and what they have learnt."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kdfuse.bridge.imports import guests
from kdfuse.bridge.replay import Pair
from kdfuse.bridge.to_tf_keras import Bridged

INITS = {"kmeans++": "KMEANS_PLUS_PLUS", "linear": "LINEAR", "density": "DENSITY_BASED"}
ROUNDS = 100  # of k-means, at most; it ends by itself in far fewer
_PARTS = {"kernel", "pointwise_kernel", "embeddings", "recurrent_kernel"}


class Share(NamedTuple):
    """How the weights of a layer share values.

    Attributes:
        clusters: how many values each of its kernels has at most; zero is one of them where zeros are kept.
        sparsity: whether what is zero stays zero.
    """

    clusters: int
    sparsity: bool


class Clustered(NamedTuple):
    """A model whose kernels are made of shared values while it trains.

    Attributes:
        model: the tf_keras model.
        pairs: the Keras 3 variables with its tf.Variables.
    """

    model: Any
    pairs: list[Pair]


def clusterable(layer: Any) -> list[Any]:
    """The kernels of a built tf_keras layer that TFMOT clusters, as its tf.Variables; none where it does not know the layer."""
    tf_keras = guests().tf_keras
    if isinstance(layer, tf_keras.layers.RNN | tf_keras.layers.Bidirectional | tf_keras.layers.MultiHeadAttention):
        return [weight for weight in layer.weights if len(weight.shape) > 1 and _last(weight) in _PARTS]
    if not layer.weights or not _registry().supports(layer) or type(layer).__name__ not in _known():
        return []
    return [getattr(layer, name) for name in _registry()._LAYERS_WEIGHTS_MAP[type(layer)]]


def clustered(bridged: Bridged, shares: Mapping[str, Share], init: str = "kmeans++") -> Clustered:
    """TFMOT's clustering form of a bridged model; the first centroids are moved to where k-means ends.

    Args:
        bridged: it is not to be used afterwards: TFMOT changes its layers.
        shares: by the names of tf_keras layers; the others are left as they are.
        init: `kmeans++`, `linear` or `density`: where k-means begins.
    """
    tf_keras, tfmot = guests()
    way = getattr(tfmot.clustering.keras.CentroidInitialization, INITS[init])

    def wrap(layer: Any) -> Any:
        if layer.name not in shares:
            return layer
        share = shares[layer.name]
        return tfmot.clustering.keras.cluster_weights(layer, share.clusters, way, preserve_sparsity=share.sparsity)

    model = tf_keras.models.clone_model(bridged.model, clone_function=wrap)
    for wrapper in _wrappers(model):
        for name, original in wrapper.original_clusterable_weights.items():
            zero = wrapper.zero_idx.get(name)
            centroids = wrapper.cluster_centroids[name]
            centroids.assign(k_means(original.numpy(), centroids.numpy(), None if zero is None else int(zero)))
    return Clustered(model, bridged.pairs)


def settle(net: Clustered) -> list[tuple[Any, np.ndarray]]:
    """The Keras 3 variable of each clustered kernel, and its shared values."""
    mine = {id(theirs): variable for variable, theirs in net.pairs}
    found = []
    for wrapper in _wrappers(net.model):
        wrapper.update_clustered_weights_associations()
        for name, original in wrapper.original_clusterable_weights.items():
            found.append((mine[id(original)], np.asarray(wrapper.get_weight_from_layer(name))))
    return found


def k_means(values: np.ndarray, centroids: np.ndarray, zero: int | None = None) -> np.ndarray:
    """Lloyd's k-means of numbers on a line, from given centroids to where no number changes its cluster.

    Args:
        values: of any shape.
        centroids: `[clusters]`. One that nothing is nearest to stays where it is.
        zero: the place of the centroid that stays 0; zeros among the values belong to it, and no other value does.

    Returns:
        `[clusters]`, each at its old place.
    """
    flat, means = np.sort(values.reshape(-1).astype("float64")), centroids.astype("float64")
    free = np.arange(means.size)
    if zero is not None:
        flat, free = flat[flat != 0], np.delete(free, zero)
        means[zero] = 0.0
    sums = np.concatenate([[0.0], np.cumsum(flat)])
    for _ in range(ROUNDS):
        order = free[np.argsort(means[free], kind="stable")]
        ends = np.searchsorted(flat, (means[order][1:] + means[order][:-1]) / 2, side="right")
        bounds = np.concatenate([[0], ends, [flat.size]])
        counts, totals = np.diff(bounds), np.diff(sums[bounds])
        moved = np.where(counts > 0, totals / np.maximum(counts, 1), means[order])
        if np.array_equal(moved, means[order]):
            break
        means[order] = moved
    return means.astype(centroids.dtype)


def _wrappers(model: Any) -> list[Any]:
    return [layer for layer in model.layers if hasattr(layer, "original_clusterable_weights")]


def _registry() -> Any:
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_registry import ClusteringRegistry

    return ClusteringRegistry


def _known() -> set[str]:
    return {kind.__name__ for kind in _registry()._LAYERS_WEIGHTS_MAP}


def _last(weight: Any) -> str:
    return str(weight.name).partition(":")[0].rpartition("/")[2]
