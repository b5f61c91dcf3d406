"""TFMOT's quantize configs, and one of our own for kernels that must keep clusters and for 1D convolutions."""

import functools
from typing import Any

from kdfuse.bridge.imports import guests
from kdfuse.bridge.opaque import opaque_class

_ROOM = "tensorflow_model_optimization.python.core.quantization.keras"


def registry() -> Any:
    """TFMOT's table of the layers it knows."""
    return tfmot_module("default_8bit.default_8bit_quantize_registry").Default8BitQuantizeRegistry()


def output_config() -> Any:
    """The class of a config that quantizes the output alone."""
    return tfmot_module("default_8bit.default_8bit_quantize_configs").Default8BitOutputQuantizeConfig


def nothing_config() -> Any:
    """The class of a config that quantizes nothing."""
    return tfmot_module("default_8bit.default_8bit_quantize_configs").NoOpQuantizeConfig


@functools.cache
def kernel_config() -> Any:
    """The class of a config for one kernel, which may keep its clusters (CQAT) and the zeros among them (PCQAT).

    TFMOT's own schemes share one quantizer among all layers, and a layer without zeros then switches sparsity off for those after it.
    """
    base = tfmot_module("default_8bit.default_8bit_quantize_registry").Default8BitQuantizeConfig
    quantizers = tfmot_module("collab_opts.cluster_preserve.cluster_preserve_quantize_registry")
    plain = tfmot_module("default_8bit.default_8bit_quantizers").Default8BitConvWeightsQuantizer

    class KernelConfig(base):  # type: ignore[misc, valid-type]
        """Quantizes a kernel by its last values, and the activation where it is told to."""

        def __init__(self, kernel: str, per_channel: bool, clusters: bool, sparsity: bool, activation: bool) -> None:
            super().__init__([kernel], ["activation"] if activation else [], False)
            self.settings = {
                "kernel": kernel, "per_channel": per_channel, "clusters": clusters, "sparsity": sparsity, "activation": activation
            }  # fmt: skip
            if clusters and per_channel:
                self.weight_quantizer = quantizers.ClusterPreserveDefault8BitConvWeightsQuantizer(sparsity)
            elif clusters:
                self.weight_quantizer = quantizers.ClusterPreserveDefault8BitWeightsQuantizer(sparsity)
            elif per_channel:
                self.weight_quantizer = plain()

        def get_config(self) -> dict[str, Any]:
            return dict(self.settings)

    return KernelConfig


def scope() -> Any:
    """A context in which TFMOT can make our layers and configs again."""
    known = {"KernelConfig": kernel_config(), "Opaque": opaque_class(), "Default8BitOutputQuantizeConfig": output_config()}
    return guests().tfmot.quantization.keras.quantize_scope(known)


def tfmot_module(name: str) -> Any:
    """A module of TFMOT's quantization package: its public face lacks the default configs."""
    import importlib

    guests()
    return importlib.import_module(f"{_ROOM}.{name}")
