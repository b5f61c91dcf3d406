"""Cluster: the weights of a kernel share a few values."""

from typing import Any

import keras
import numpy as np

from kdfuse.bridge.clustered import INITS, Share, clusterable, clustered, settle
from kdfuse.bridge.stand_in import standing_in
from kdfuse.bridge.to_tf_keras import Bridged
from kdfuse.compress import bridged as way
from kdfuse.compress import held
from kdfuse.compress.training import innermost, refuse_tfmot
from kdfuse.data import Data
from kdfuse.settings import choose, settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Fitted, Train, Trainer


@settings
class Cluster(Technique):
    """Make the weights of each kernel share a few values (TFMOT), so that a codebook and short indices hold them.

    Clustered are the kernels of Dense, convolutions (of separable ones the pointwise half), embeddings, recurrent layers and
    attention; biases, normalisation and depthwise kernels are not. The values begin where k-means ends and learn with the model. The
    model that comes back is plain Keras 3, of the given architecture; each clustered kernel has at most `clusters` different
    values, zero among them. Zeros of sparse kernels stay. The file gets smaller only when it is compressed (gzip, Huffman).

    Han et al.: Deep Compression, 2016 (arXiv 1510.00149).

    Attributes:
        clusters: values of a kernel, at least 2 (3 where zeros are kept).
        init: where k-means begins: `kmeans++`, `linear` (evenly between the least and the largest weight) or `density` (evenly in
            the weights' distribution).
        layers: by layer's name, path or pattern with `*` another number, or None to leave it out: `{"dense_2": None, "conv*": 32}`.
        keep_sparsity: whether zeros of kernels that have at least 1 % of them stay zero.
        training: how to fit meanwhile, `Train(...)` or `Distill(teacher)`; in float32 on one device, with losses on outputs alone. The
            default is three epochs at a tenth of Adam's usual rate. None: no training.
        opaque: names of layers that cross the bridge as they are; `auto` for all that tf_keras lacks. They are not clustered.
    """

    clusters: int = 16
    init: str = "kmeans++"
    layers: dict[str, int | None] | None = None
    keep_sparsity: bool = True
    training: Trainer | None = Train(epochs=3, learning_rate=1e-4)
    opaque: tuple[str, ...] | str = "auto"

    keeps_structure = True

    def __post_init__(self) -> None:
        for argument in ("clusters", "init"):
            refuse_tfmot(argument, getattr(self, argument))
        _check_count("clusters", self.clusters)
        choose("init", self.init, tuple(INITS))
        if self.layers is not None and not isinstance(self.layers, dict):
            raise TypeError(f"`layers`: expected a dict of layer's name to a number or None. Received: {self.layers!r}.")
        for name, count in (self.layers or {}).items():
            if count is not None:
                _check_count(f"layers[{name!r}]", count)
        if not isinstance(self.keep_sparsity, bool):
            raise ValueError(f"`keep_sparsity`: expected True or False. Received: {self.keep_sparsity!r}.")
        if self.training is not None:
            way.check_bridge_training(self.training)
        way.check_opaque(self.opaque)

    def check(self, model: keras.Model, data: Data) -> None:
        self._plan(way.check_crossing(model, data, self.opaque), weights_known=False)
        if self.training is not None:
            self.training.check(model, data)  # type: ignore[attr-defined]

    def apply(self, model: keras.Model, data: Data) -> Result:
        training = self.training if self.training is not None else Train()
        student = training.private(model, data)
        bridge = way.cross(student, data, self.opaque)
        shares, why = self._plan(bridge)
        homes = way.layer_names(bridge)
        kernels = [(mine, *homes[id(mine)]) for mine, _ in bridge.pairs if held.is_kernel(mine)]
        before = [np.asarray(mine.numpy()) for mine, _, _ in kernels]
        net = clustered(bridge, shares, self.init)
        if self.training is None:
            fitted, found = Fitted({}, ["Clustered at once, without training."]), settle(net)
        else:
            with standing_in(student, net.model, net.pairs):
                fitted = training.fit(student, data)
                found = settle(net)
        for variable, array in found:
            variable.assign(array)
        rows = []
        changed = {id(variable) for variable, _ in found}
        for (mine, path, layer), old in zip(kernels, before, strict=True):
            now = np.asarray(mine.numpy())
            clusters = shares[layer.name].clusters if id(mine) in changed else None
            self._assert(path, old, now, shares.get(layer.name) if id(mine) in changed else None)
            rows.append({
                "layer": path, "weight": mine.name, "weights": now.size, "clusters": clusters, "values_before": way.values(old),
                "values": way.values(now), "sparsity": float(np.mean(now == 0)),
                "note": "" if clusters is not None else why.get(layer.name, "TFMOT does not cluster it"),
            })  # fmt: skip
        public = training.public(student, data)
        most = max((row["values"] for row in rows if row["clusters"] is not None), default=0)
        result = Result(public, fitted.history, {"cluster/most_values": float(most)}, {"clusters": rows})
        result.notes = [*fitted.notes, *way.bridge_notes(bridge)]
        head = innermost(training).head
        result.heads = {"model": head, "before": head}
        if model.built:
            result.baselines["before"] = model
        return result

    def _plan(self, bridge: Bridged, weights_known: bool = True) -> tuple[dict[str, Share], dict[str, str]]:
        """By tf_keras layer what is shared, and why others are not."""
        kernels = {path: [(layer, clusterable(layer)) for layer in layers] for path, layers in bridge.layers.items()}
        able = [path for path, found in kernels.items() if any(weights for _, weights in found)]
        if not able:
            raise ValueError("`model`: it has no layer with a kernel that can be clustered (Dense, convolution, recurrent, attention).")
        asked = way.named(self.layers or {}, able, "layers")
        shares: dict[str, Share] = {}
        why: dict[str, str] = {}
        for path in able:
            count = self.layers[asked[path]] if self.layers is not None and path in asked else self.clusters
            for layer, weights in kernels[path]:
                if not weights:
                    continue
                sparse = self.keep_sparsity and bool(held.zeros_of(weights))
                fewest = min(way.values(np.asarray(weight)) for weight in weights)
                if count is None:
                    why[layer.name] = "left out in `layers`"
                elif fewest <= count:
                    why[layer.name] = f"has no more than {count} values"
                elif weights_known and sparse and count < 3:
                    raise ValueError(f"`clusters`: {path!r} has zeros to keep, which take one value. Received: {count}. Give at least 3.")
                else:
                    shares[layer.name] = Share(count, sparse)
        return shares, why

    def _assert(self, path: str, old: np.ndarray, now: np.ndarray, share: Share | None) -> None:
        if share is None:
            return
        if way.values(now) > share.clusters:
            raise RuntimeError(f"Cluster: {path!r} has {way.values(now)} values instead of {share.clusters}.")
        if share.sparsity and np.any(now[old == 0]):
            raise RuntimeError(f"Cluster: zeros of {path!r} got lost. Give keep_sparsity=False to go without them.")


def _check_count(argument: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise ValueError(f"`{argument}`: expected a number of values, at least 2. Received: {value!r}.")
