import json
import os
import random
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse import runtime

MIRRORED = """
import json
from kdfuse import runtime
tf = runtime.tensorflow()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from kdfuse.datasets import load
data = load("digits", labels=200)

def train(strategy):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(16, "relu"), keras.layers.Dense(10)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        steps = data.train.steps(32)
        model.fit(data.train.dataset(32, seed=0, epochs=3), steps_per_epoch=steps, epochs=3, shuffle=False, verbose=0)
    return np.concatenate([weight.ravel() for weight in model.get_weights()])

two = runtime.strategy("mirrored")
one = train(runtime.strategy("one_device", ["CPU:1"]))
print(json.dumps({
    "replicas": two.num_replicas_in_sync,
    "same_object": runtime.strategy("mirrored") is two,
    "difference": float(np.abs(train(two) - one).max()),
    "moved": float(np.abs(one).max()),
    "only": runtime.strategy("mirrored", ["cpu:1"]).num_replicas_in_sync,
}))
"""


FRESH = """
from kdfuse import runtime
print(runtime.describe())
runtime.seed_everything(0, deterministic_operations=True)
import tensorflow as tf
tf.random.set_seed(None)
try:
    tf.random.uniform(())
except RuntimeError as error:  # without a seed there is no determinism
    print("determinism" in str(error))
"""


def child(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=200, check=False
    )


def test_mirrored_on_two_logical_cpus_trains_as_one_device_does() -> None:
    done = child(MIRRORED)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["replicas"], found["same_object"], found["only"]) == (2, True, 1)
    assert found["difference"] < 1e-6 < found["moved"]


def test_a_fresh_process_is_quiet_and_can_be_made_deterministic() -> None:
    done = child(FRESH, TF_CPP_MIN_LOG_LEVEL="2")
    assert done.returncode == 0 and done.stderr == ""
    line, refused = done.stdout.splitlines()
    assert f"TensorFlow {tf.__version__}" in line and refused == "True"


def test_describe_and_devices() -> None:
    line = runtime.describe()
    assert f"Keras {keras.__version__}" in line and "float32" in line and "\n" not in line
    found = runtime.devices()
    assert found[0].name == "CPU:0" and found[0].kind == "CPU" and "cores" in found[0].detail
    if not any(device.kind == "GPU" for device in found):
        assert line.endswith("no GPU found")


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    details = {"device_name": "Some GPU", "compute_capability": (9, 0)}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    assert runtime.devices() == [runtime.Device("GPU:0", "GPU", "Some GPU 9.0")]
    assert runtime.describe().endswith("float32, GPU:0 Some GPU 9.0")


def test_memory_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    monkeypatch.setattr(tf.config.experimental, "get_memory_growth", lambda device: False)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda device, enable: asked.append((device, enable)))
    assert runtime.memory_growth() and asked == [(gpu, True)]

    def too_late(device: Any, enable: bool) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", too_late)
    with pytest.warns(UserWarning, match="first thing in the program"):
        assert not runtime.memory_growth()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    assert not runtime.memory_growth()


@pytest.mark.parametrize("name", runtime.PRECISIONS)
def test_precision_is_lent_and_comes_back(name: str) -> None:
    before = keras.config.dtype_policy().name
    with pytest.raises(KeyError), runtime.precision(name):
        assert keras.layers.Dense(1).dtype_policy.name == name
        raise KeyError
    assert keras.config.dtype_policy().name == before


def test_wrong_names() -> None:
    with pytest.raises(ValueError, match="Did you mean 'mixed_float16'"), runtime.precision("mixed_float"):
        pass
    with pytest.raises(ValueError, match="Did you mean 'mirrored'"):
        runtime.strategy("mirorred")
    with pytest.raises(ValueError, match=r"Received: 'CPU:7'"):
        runtime.strategy("mirrored", ["CPU:7"])
    with pytest.raises(ValueError, match="expected one device"):
        runtime.strategy("one_device", ["CPU:0", "CPU:0"])
    with pytest.raises(ValueError, match="`devices`: expected None"):
        runtime.strategy("default", ["CPU:0"])


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    if tf.config.list_logical_devices("GPU"):
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    with pytest.raises(ValueError, match="no GPU was found"):
        runtime.strategy("mirrored", ["gpu"])
    with pytest.raises(ValueError, match="`strategy`: expected a GPU for 'gpu'. Received: .*finds none, only .*'CPU:0'.*Install kdfuse"):
        runtime.strategy("gpu")
    with pytest.raises(ValueError, match="`devices`: expected None for strategy 'gpu'"):
        runtime.strategy("gpu", ["GPU:1"])


def test_several_machines_need_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG"):
        runtime.strategy("multi_worker_mirrored")


def test_the_default_strategy_is_the_one_in_force() -> None:
    assert runtime.strategy() is tf.distribute.get_strategy() is runtime.strategy("default")
    one = runtime.strategy("one_device")
    with one.scope():
        assert runtime.strategy() is one


def test_seeds() -> None:
    with runtime.seeds_kept():
        random.seed(1)
        np.random.seed(1)
        before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr, index]
        with runtime.seeds_kept():
            draws = []
            for _ in range(2):
                runtime.seed_everything(7)
                draws.append([random.random(), np.random.rand(), float(keras.random.uniform(())), float(tf.random.uniform(()))])
            assert draws[0] == draws[1]
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[union-attr, index]
    for seed in (-1, 2**32, 1.5, True):
        with pytest.raises(ValueError, match="`seed`"):
            runtime.seed_everything(seed)  # type: ignore[arg-type]


def test_warnings_of_traces_are_kept_back_where_new_models_are_made(caplog):
    import logging

    logger = logging.getLogger("tensorflow")
    with runtime.new_models_expected():
        logger.warning("5 out of the last 9 calls to f triggered tf.function retracing. Tracing is expensive")
        logger.warning("something else")
    logger.warning("6 out of the last 9 calls to f triggered tf.function retracing. Tracing is expensive")
    shown = [record.getMessage() for record in caplog.records]
    assert len(shown) == 2 and shown[0] == "something else" and shown[1].startswith("6 out of")
