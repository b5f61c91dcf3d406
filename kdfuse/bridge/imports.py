"""The one door to tf_keras and TFMOT: importing them must not change what `tf.keras` is for anybody else."""

import functools
import os
from typing import Any, NamedTuple

import tensorflow as tf

FLAG = "TF_USE_LEGACY_KERAS"


class Guests(NamedTuple):
    """The guest packages.

    Attributes:
        tf_keras: Keras 2, which TFMOT works on.
        tfmot: tensorflow_model_optimization.
    """

    tf_keras: Any
    tfmot: Any


@functools.cache
def guests() -> Guests:
    """tf_keras and TFMOT, imported so that `tf.keras` and the environment stay as they are.

    TFMOT sets `TF_USE_LEGACY_KERAS` when it is imported. `tf.keras` reads it when it is first used: it is resolved here before,
    and the variable is put back, so that this process and its children keep the Keras they had.

    Raises:
        ImportError: one of them is not installed.
    """
    _ = tf.keras.version()  # resolved by the first use of an attribute
    before = os.environ.get(FLAG)
    try:
        import tensorflow_model_optimization as tfmot
        import tf_keras
    except ImportError as error:
        raise ImportError(
            f"Clustering and quantization-aware training need tf-keras and tensorflow-model-optimization: {error}. "
            "Install them: pip install tf-keras tensorflow-model-optimization."
        ) from error
    finally:
        if before is None:
            os.environ.pop(FLAG, None)
        else:
            os.environ[FLAG] = before
    return Guests(tf_keras, tfmot)
