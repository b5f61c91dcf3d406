"""What a GPU gives: a training step, a step of distillation, inference in batches and one sample's latency, by precision and device.

Three networks: an MLP 784-1200-1200-10, a convolutional network of 66,314 parameters (both 28x28x1, batch 128), and ResNet50 without
trained weights (64x64x3, batch 64). Each device runs in a process of its own on the same machine, its CPU with all cores. Random data:
time alone is measured. A figure is the median over the epochs after the first, which traces and compiles.

    python benchmarks/gpu.py [--quick]      --quick: two epochs of the MLP; nothing is kept, and it runs without a GPU
    python benchmarks/gpu.py --table        only write the table of the documentation from the committed results
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import keras
import numpy as np
from distill_step import Clock, cnn, mlp

import kdfuse as kf
from kdfuse import runtime
from kdfuse.measure.latency import compiled, latency

NAME = "gpu"
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def resnet(name):
    return keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10, name=name)


NETWORKS = {
    "MLP 784-1200-1200-10": {"build": lambda: mlp((1200, 1200), "t"), "shape": (28, 28, 1), "batch": 128, "steps": 64},
    "CNN, 66,314 parameters": {"build": lambda: cnn((32, 64, 80), "t"), "shape": (28, 28, 1), "batch": 128, "steps": 64},
    "ResNet50": {"build": lambda: resnet("t"), "shape": (64, 64, 3), "batch": 64, "steps": 16},
}


class Epochs(Clock):
    """The seconds of every epoch."""

    def __init__(self):
        super().__init__()
        self.all = []

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.all.append(self.seconds)


def step(trainer, model, data, steps):
    """Milliseconds of a step, and the seconds until the first epoch ended beyond what an epoch takes."""
    clock, private = Epochs(), trainer.private(model, data)
    trainer.fit(private, data, [clock])
    usual = statistics.median(clock.all[1:])
    return 1000 * usual / steps, clock.all[0] - usual


def inference(model, rows):
    """Rows a second in batches of 1,024 (256 for images of three colours), from host to host."""
    size = 1024 if rows.shape[-1] == 1 else 256
    batch = np.resize(rows, (size, *rows.shape[1:]))
    call, taken = compiled(model), []
    for _ in range(8):
        begun = time.perf_counter()
        np.asarray(call(keras.ops.convert_to_tensor(batch)))
        taken.append(time.perf_counter() - begun)
    return size / statistics.median(taken[2:])


def measure(quick):
    """Every network on the device that TensorFlow chooses in this process."""
    found, random = {}, np.random.default_rng(0)
    on_gpu = any(device.kind == "GPU" for device in runtime.devices())
    for name, network in list(NETWORKS.items())[: 1 if quick else None]:
        batch, steps = network["batch"], 4 if quick else network["steps"]
        x = random.random((batch * steps, *network["shape"]), dtype="float32")
        data = kf.Data(train=(x, random.integers(0, 10, len(x))), class_names=[str(i) for i in range(10)])
        teacher = network["build"]()
        for precision in PRECISIONS if on_gpu else PRECISIONS[:1]:
            for jit in ("auto", False) if on_gpu else ("auto",):
                training = kf.Train(epochs=2 if quick else 6, batch_size=batch, precision=precision, jit=jit, checkpoint=0, head="logits")
                if name == "ResNet50":
                    training = kf.Train(**{**vars(training), "head": "softmax"})
                distilling = kf.Distill(teacher, training=training)
                row = dict(zip(("train ms", "train compile s"), step(training, teacher, data, steps), strict=True))
                row |= dict(zip(("distil ms", "distil compile s"), step(distilling, teacher, data, steps), strict=True))
                found[f"{name}, {precision}, jit={jit}"] = row
                print(f"{runtime.describe()}: {name}, {precision}, jit={jit}: {row}", file=sys.stderr, flush=True)
        served = {"rows a second": inference(teacher, x), "latency ms": latency(teacher, x[:1])["latency/p50_ms"]}
        found[f"{name}, inference"] = served
    return {"device": runtime.describe(), "rows": found}


def table(results):
    cpu, gpu, rows = results["CPU"]["rows"], results["GPU"]["rows"], []
    for name in NETWORKS:
        slow = cpu[f"{name}, float32, jit=auto"]
        for precision in PRECISIONS:
            for jit, compiled_by in (("auto", "yes"), (False, "no")):
                row = gpu[f"{name}, {precision}, jit={jit}"]
                ratios = [f"{row[kind] / slow[kind]:.3f}" for kind in ("train ms", "distil ms")]
                rows.append([name, precision, compiled_by, f"{row['train ms']:.2f}", *ratios, f"{row['train compile s']:.1f}"])
    header = ["network", "precision", "XLA", "training step, ms", "over the CPU's", "distillation step over the CPU's", "compiling, s"]
    served = []
    for name in NETWORKS:
        fast, slow = gpu[f"{name}, inference"], cpu[f"{name}, inference"]
        served.append([name, f"{slow['rows a second'] / fast['rows a second']:.3f}", f"{fast['latency ms'] / slow['latency ms']:.2f}"])
    devices = [f"{kind}: {results[kind]['device']}" for kind in ("GPU", "CPU")]
    note = f"Medians over epochs, random data, the CPU in float32 (`benchmarks/gpu.py`). {'. '.join(devices)}."
    second = common.markdown(
        ["inference from host to host", "a large batch, over the CPU's time", "one sample, over the CPU's time"], served
    )
    return f"{common.markdown(header, rows)}\n\n{second}\n\n{note}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only write the table of the documentation from the committed results")
    parser.add_argument("--quick", action="store_true", help="two epochs of the smallest network; nothing is kept")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.here:
        print(json.dumps(measure(chosen.quick)))
        return
    if not chosen.table:
        flags = ["--here", *(["--quick"] if chosen.quick else [])]
        results = {"GPU": common.apart(__file__, flags), "CPU": common.apart(__file__, flags, CUDA_VISIBLE_DEVICES="-1")}
        if chosen.quick:
            print(json.dumps(results, indent=1))
            return
        if "GPU:0" not in results["GPU"]["device"]:
            sys.exit(f"No GPU was found: {results['GPU']['device']}.")
        common.save(NAME, results)
    common.into_page(NAME, table(common.load(NAME)))


if __name__ == "__main__":
    main()
