"""Linear layers before a ReLU, which TFMOT leaves unquantized."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from kdfuse.bridge.configs import tfmot_module

KERNELS = {"Dense": "kernel", "Conv2D": "kernel", "DepthwiseConv2D": "depthwise_kernel"}
_lock = threading.Lock()


@contextlib.contextmanager
def kernels_before_relu() -> Iterator[None]:
    """Inside, TFMOT quantizes the kernel of a Dense or convolution whose ReLU is a layer of its own, and nothing between the two.

    Its own transform takes the whole layer out, the kernel with it: the kernel then trains as float, and is rounded only when the
    file is written.
    """
    transform = tfmot_module("default_8bit.default_8bit_transforms").LayerReLUQuantize
    table = tfmot_module("default_8bit.default_8bit_quantize_registry")
    original = transform.replacement

    def replacement(self: Any, match_layer: Any) -> Any:
        before = match_layer.input_layers[0]
        kernel = KERNELS.get(before.layer["class_name"])
        if kernel is None:
            return original(self, match_layer)
        if before.metadata.get("quantize_config") is None:
            dense = before.layer["class_name"] == "Dense"
            kind = table.Default8BitQuantizeConfig if dense else table.Default8BitConvQuantizeConfig
            before.metadata["quantize_config"] = kind([kernel], [], False)
        return match_layer

    with _lock:
        transform.replacement = replacement
        try:
            yield
        finally:
            transform.replacement = original
