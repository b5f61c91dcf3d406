"""The door to tf_keras changes nothing for anybody else."""

import subprocess
import sys

import pytest

CODE = """
import os, subprocess, sys
{before}
import tensorflow as tf
import kdfuse.bridge.quantized, kdfuse.bridge.clustered, kdfuse.bridge.to_tf_keras
assert not {{"tf_keras", "tensorflow_model_optimization"}} & set(sys.modules), "importing the bridge loads no guest"
from kdfuse.bridge.imports import guests
first = guests()
assert guests() is first and first.tf_keras.__version__.startswith("2.")
assert hasattr(first.tfmot, "quantization")
print(os.environ.get("TF_USE_LEGACY_KERAS"), tf.keras.version()[0], tf.keras.layers.Dense.__module__.split(".")[0])
child = "import os; print(os.environ.get('TF_USE_LEGACY_KERAS'))"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout)
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [("os.environ.pop('TF_USE_LEGACY_KERAS', None)", ["None", "3", "keras", "None"]),
     pytest.param("os.environ['TF_USE_LEGACY_KERAS'] = '0'", ["0", "3", "keras", "0"], marks=pytest.mark.slow)],
)  # fmt: skip
def test_tf_keras_comes_late_and_it_and_the_environment_stay_as_they_were(before: str, said: list[str]) -> None:
    run = subprocess.run([sys.executable, "-c", CODE.format(before=before)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == said
