"""What a step of pruning costs over a step of plain `fit`, and what TFMOT's costs over its own, in one process, interleaved.

An MLP 784-300-100-10 and LeNet-5 (431,080 weights), batch 128, polynomial sparsity to 0.9, masks made anew at every step and at every
hundredth. Measured: plain `fit` of Keras 3, kdfuse's pruner with one step an execution and with as many as `Train` chooses, plain
`fit` of tf_keras, and TFMOT's wrappers with its callback. Every round runs each of them for one epoch, in an order that rotates; a
ratio is taken within a round and to the plain `fit` of the same Keras, and the table gives the median with its 95 % interval.

    python benchmarks/prune_step.py [--rounds 21] [--steps 64] [--quick]
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import keras
import numpy as np
import tensorflow as tf

from kdfuse.compress.criteria.magnitude import Magnitude
from kdfuse.compress.kernels import find
from kdfuse.compress.layer_targets import resolve
from kdfuse.compress.pruner import Pruner
from kdfuse.compress.schedules import PolynomialSparsity
from kdfuse.compress.selection import Selection
from kdfuse.fitting.execution import steps_together

NAME, BATCH, FREQUENCIES = "prune_step", 128, (1, 100)
NETS = {"MLP 784-300-100-10": (784,), "LeNet-5": (28, 28, 1)}
PLAIN, PEER, TFMOT = "plain fit", "plain fit of tf_keras", "TFMOT"


def build(kind, net):
    layers = kind.layers
    if NETS[net] == (784,):
        hidden = [layers.Dense(300, "relu"), layers.Dense(100, "relu")]
    else:
        hidden = [layers.Conv2D(20, 5, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(50, 5, activation="relu")]
        hidden += [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(500, "relu")]
    return kind.Sequential([layers.Input(NETS[net]), *hidden, layers.Dense(10)])


def rows(net, steps):
    random = np.random.default_rng(0)
    return random.random((steps * BATCH, *NETS[net]), dtype="float32"), random.integers(0, 10, steps * BATCH)


def runner(kind, model, x, y, callbacks=(), together=1):
    """A function that trains for one epoch and returns the seconds from its first step to its last."""

    class Clock(kind.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds = time.perf_counter() - self.begun

    loss = kind.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], steps_per_execution=together)

    def run():
        clock = Clock()
        model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[clock, *callbacks])
        return clock.seconds

    return run


def pruner_of(model, last, frequency):
    chosen, _ = resolve(*find(model), None, 0.9, None)
    kernels, targets = [kernel for kernel, _ in chosen], [target for _, target in chosen]
    return Pruner(
        Selection(kernels, targets, Magnitude(), "layer", [None] * len(kernels)), PolynomialSparsity(0.0, 0, last, frequency).plan(None)
    )


def variants(net, last, steps):
    """For each row of the table, a function that trains for one epoch and returns its seconds."""
    import tf_keras

    prune, callbacks, schedules = tfmot()
    x, y = rows(net, steps)
    together = steps_together("auto", steps, ())
    found = {
        PLAIN: runner(keras, build(keras, net), x, y),
        f"{PLAIN}, {together} steps an execution": runner(keras, build(keras, net), x, y, together=together),
        PEER: runner(tf_keras, build(tf_keras, net), x, y),
    }
    for frequency in FREQUENCIES:
        for count in (1, together):
            model = build(keras, net)
            name = f"kdfuse, masks every {frequency}" + ("" if count == 1 else f", {count} steps an execution")
            found[name] = runner(keras, model, x, y, [pruner_of(model, last, frequency)], count)
        schedule = schedules.PolynomialDecay(0.0, 0.9, 0, last, 3, frequency)
        wrapped = prune.prune_low_magnitude(build(tf_keras, net), pruning_schedule=schedule)
        found[f"{TFMOT}, masks every {frequency}"] = runner(tf_keras, wrapped, x, y, [callbacks.UpdatePruningStep()])
    return found


def tfmot():
    """TFMOT's modules, imported so that `tf.keras` stays Keras 3."""
    tf.keras.version()
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    from tensorflow_model_optimization.python.core.sparsity.keras import prune, pruning_callbacks, pruning_schedule

    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    if before is not None:
        os.environ["TF_USE_LEGACY_KERAS"] = before
    return prune, pruning_callbacks, pruning_schedule


def measure(net, rounds, steps):
    runs = variants(net, 100 * rounds * steps, steps)
    seconds = {name: [] for name in runs}
    order = list(runs)
    for place in range(rounds + 1):
        for name in order[place % len(order) :] + order[: place % len(order)]:
            took = runs[name]()
            if place:  # the first round traces
                seconds[name].append(took / steps)
        print(f"{net}: round {place} of {rounds}", file=sys.stderr, flush=True)
    return seconds


def table(results):
    lines = []
    for net, seconds in results["nets"].items():
        for name, own in seconds.items():
            plain = seconds[PEER if name.startswith((PEER, TFMOT)) else PLAIN]
            low, middle, high = common.median_interval([one / base for one, base in zip(own, plain, strict=True)])
            lines.append([net, name, f"{middle:.2f}x", f"{low:.2f} to {high:.2f}", f"{1000 * common.median_interval(own)[1]:.1f}"])
    note = "One process, rounds interleaved; ratio to plain `fit` of the same Keras in the same round, median with its 95 % interval"
    return f"{common.markdown(['net', 'what', 'step cost', 'interval', 'ms a step'], lines)}\n\n{note} (`benchmarks/prune_step.py`)."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--table", action="store_true", help="only write the table of the documentation from the committed results")
    parser.add_argument("--quick", action="store_true", help="two rounds of eight steps; nothing is kept")
    chosen = parser.parse_args()
    if chosen.table:
        common.into_page(NAME, table(common.load(NAME)))
        return
    rounds, steps = (2, 8) if chosen.quick else (chosen.rounds, chosen.steps)
    results = {"nets": {net: measure(net, rounds, steps) for net in NETS}, "rounds": rounds, "steps": steps}
    print(table(results))
    if not chosen.quick:
        common.save(NAME, results)
        common.into_page(NAME, table(results))


if __name__ == "__main__":
    main()
