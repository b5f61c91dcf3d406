"""What kdfuse runs on: devices, memory, precision, distribution, seeds.

TensorFlow is loaded when a function needs it, not before. Everything here was tested on CPU, distribution on logical CPU devices;
what was not measured on a GPU says so.
"""

import contextlib
import functools
import logging
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kdfuse.settings import choose

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("default", "one_device", "gpu", "mirrored", "multi_worker_mirrored")


class Device(NamedTuple):
    """A physical device: `name` as in `GPU:0`, its `kind` (`CPU`, `GPU`), and what is known of it."""

    name: str
    kind: str
    detail: str


def tensorflow() -> Any:
    """TensorFlow, loaded without the lines that its C++ parts write at the start, which no log level silences.

    They are shown after all where the import fails.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # The look for a GPU writes some more of them.
    return tf


def devices() -> list[Device]:
    """The physical devices TensorFlow sees. On a GPU the detail is its name and compute capability (not measured on a GPU)."""
    tf = tensorflow()
    found = []
    for device in tf.config.list_physical_devices():
        known = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
        capability = ".".join(map(str, known.get("compute_capability", ())))
        name = device.name.removeprefix("/physical_device:")
        detail = f"{_cores()} cores" if device.device_type == "CPU" else f"{known.get('device_name', 'unknown')} {capability}".strip()
        found.append(Device(name, device.device_type, detail))
    return found


def describe() -> str:
    """One line that says what it runs on, such as `TensorFlow 2.21.0, Keras 3.15.1, CPU (2 cores), float32, no GPU found`."""
    tf = tensorflow()
    import keras

    found = devices()
    cpus = [f"CPU ({device.detail})" for device in found if device.kind == "CPU"][:1]
    others = [f"{device.name} {device.detail}" for device in found if device.kind != "CPU"]
    policy = keras.config.dtype_policy().name
    parts = [f"TensorFlow {tf.__version__}", f"Keras {keras.__version__}", *cpus, policy, *(others or ["no GPU found"])]
    return ", ".join(parts)


def memory_growth(enable: bool = True) -> bool:
    """Let GPU memory grow as needed instead of being taken whole. Not measured on a GPU.

    Call it before anything is computed; later TensorFlow cannot change it, and a warning says so.

    Returns:
        Whether it is now as asked on at least one GPU; False without a GPU.
    """
    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    try:
        for gpu in gpus:
            if tf.config.experimental.get_memory_growth(gpu) != enable:
                tf.config.experimental.set_memory_growth(gpu, enable)
    except (RuntimeError, ValueError) as error:
        warnings.warn(
            f"GPU memory growth could not be set ({error}). Call `kdfuse.runtime.memory_growth()` first thing in the program, "
            "or set the environment variable TF_FORCE_GPU_ALLOW_GROWTH=true.",
            stacklevel=2,
        )
        return False
    return bool(gpus)


@contextlib.contextmanager
def new_models_expected() -> Iterator[None]:
    """Inside, TensorFlow does not warn that functions are traced often: every model that is made anew needs a trace of its own."""

    def keep(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Layers that are made inside compute in this precision; afterwards the global policy is as before.

    Args:
        name: `"float32"`, `"mixed_float16"` (for GPUs; its optimizer needs a loss scale) or `"mixed_bfloat16"`. The mixed ones keep
            variables in float32. Their speed was not measured on a GPU; on a CPU they are slower than float32.

    Raises:
        ValueError: an unknown name.
    """
    choose("precision", name, PRECISIONS)
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def strategy(name: str | None = None, devices: Sequence[str] | None = None) -> Any:
    """A `tf.distribute` strategy; models are made and fitted under its `scope()`.

    The same request gives the same object, as variables of one strategy cannot be used under another. Tested on logical CPU devices
    in one process; not measured on GPUs, nor `multi_worker_mirrored` on several machines.

    Args:
        name: None or `"default"`: the one in force, or none. `"one_device"`: the first GPU, else the CPU. `"gpu"`: the first GPU,
            else an error. `"mirrored"`: a copy of the model on each device, every batch divided among them.
            `"multi_worker_mirrored"`: the same over machines that the environment variable TF_CONFIG names.
        devices: names such as `"GPU:0"`, for `"one_device"` one of them. By default all GPUs, without one all (logical) CPUs.

    Raises:
        ValueError: an unknown name, a device that is not there, no GPU where one is asked for, or no TF_CONFIG.
    """
    kind = choose("strategy", "default" if name is None else name, STRATEGIES)
    if kind == "default":
        _refuse(devices, "default")
        return tensorflow().distribute.get_strategy()
    if kind in ("gpu", "multi_worker_mirrored"):
        _refuse(devices, kind)
    if kind == "multi_worker_mirrored" and "TF_CONFIG" not in os.environ:
        raise ValueError(
            "`strategy`: expected the environment variable TF_CONFIG for 'multi_worker_mirrored'. Received: none. "
            "Set it to the cluster's workers and this one's index, or use strategy='mirrored'."
        )
    return _made(kind, None if devices is None else tuple(_device(device) for device in devices))


def seed_everything(seed: int, deterministic_operations: bool = False) -> None:
    """Seed Python, NumPy, TensorFlow and Keras. This changes global state; kdfuse itself does not need it.

    Python's and NumPy's generators can be put back with `seeds_kept`. TensorFlow and Keras have no way to read theirs, so what
    they draw afterwards stays seeded.

    Args:
        seed: an integer in [0, 2**32).
        deterministic_operations: also call `deterministic`.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed`: expected an integer in [0, 2**32). Received: seed={seed!r}. Use for example seed=0.")
    tensorflow()
    import keras

    keras.utils.set_random_seed(seed)
    if deterministic_operations:
        deterministic()


@contextlib.contextmanager
def seeds_kept() -> Iterator[None]:
    """Put Python's and NumPy's global generators back at the end to where they were."""
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def deterministic() -> None:
    """Switch on TensorFlow's deterministic operations, for the rest of the process: TensorFlow offers no way back.

    An operation that has no deterministic form raises when it runs. On CPU it costs nothing measurable; not measured on a GPU.
    """
    tensorflow().config.experimental.enable_op_determinism()


@functools.cache
def _made(kind: str, names: tuple[str, ...] | None) -> Any:
    tf = tensorflow()
    if kind == "multi_worker_mirrored":
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = [_short(device) for device in tf.config.list_logical_devices("GPU")]
    present = [*gpus, *(_short(device) for device in tf.config.list_logical_devices("CPU"))]
    for name in names or ():
        if name not in present:
            mend = "Leave `devices` out to use what is there" + ("" if gpus or not name.startswith("GPU") else "; no GPU was found")
            raise ValueError(f"`devices`: expected some of {present}. Received: {name!r}. {mend}.")
    if kind == "gpu" and not gpus:
        raise ValueError(
            f"`strategy`: expected a GPU for 'gpu'. Received: a machine on which TensorFlow finds none, only {present}. "
            "Install kdfuse[gpu] and NVIDIA's driver, or use strategy='one_device', which takes the CPU where there is no GPU."
        )
    if kind in ("one_device", "gpu"):
        if names is not None and len(names) != 1:
            raise ValueError(
                f"`devices`: expected one device for 'one_device'. Received: {list(names)}. Use strategy='mirrored' for several."
            )
        return tf.distribute.OneDeviceStrategy(f"/{(names or present)[0]}")
    chosen = list(names or gpus or present)
    if not any(name.startswith("GPU") for name in chosen):
        # The default reduction is for GPUs and warns without one.
        return tf.distribute.MirroredStrategy(chosen, cross_device_ops=tf.distribute.ReductionToOneDevice())
    return tf.distribute.MirroredStrategy(chosen)


def _refuse(devices: Sequence[str] | None, kind: str) -> None:
    if devices is not None:
        raise ValueError(
            f"`devices`: expected None for strategy {kind!r}. Received: {devices!r}. Use 'one_device' or 'mirrored' with devices."
        )


def _device(name: str) -> str:
    text = str(name).removeprefix("/").removeprefix("device:").upper()
    return text if ":" in text else f"{text}:0"


def _short(device: Any) -> str:
    return str(device.name).removeprefix("/device:")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # A service may run without a standard error.
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            caught.seek(0)
            os.write(2, caught.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
