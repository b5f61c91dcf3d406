"""What a step of distillation costs over a step of plain `student.fit`, in one process, interleaved.

Two pairs: the MLPs 784-1200-1200-10 -> 784-800-800-10 and a convolutional pair (66,314 -> 4,174 parameters), batch 128. Measured:
plain `fit`, kdfuse with cached teacher outputs, kdfuse with the teacher live, `keras.distillation.Distiller` on logits, and all three
with one feature tap too. kdfuse runs as many steps per execution as `Train` chooses by itself; what the same setting gives the
others, who leave it at 1, stands at the end. Every round runs each of them for one epoch, in turn and in an order that rotates; a
ratio is taken within a round, and the table gives the median ratio with its 95 % interval.

    python benchmarks/distill_step.py [--rounds 21] [--steps 64] [--quick]
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import keras
import numpy as np
from keras import layers

import kdfuse as kf
from kdfuse.data import Data
from kdfuse.distill.cache import targets
from kdfuse.distill.distiller import Distiller
from kdfuse.distill.lessons import TaughtSplit
from kdfuse.distill.teachers import Teacher
from kdfuse.fitting.execution import steps_together
from kdfuse.graph.copy import copy_model

NAME, BATCH = "distill_step", 128
LABELS = keras.losses.SparseCategoricalCrossentropy


def mlp(units, name):
    hidden = [layers.Dense(width, "relu", name=f"{name}_{place}") for place, width in enumerate(units)]
    return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), *hidden, layers.Dense(10, name=f"{name}_out")], name=name)


def cnn(filters, name):
    net = [keras.Input((28, 28, 1))]
    for place, width in enumerate(filters):
        net += [layers.Conv2D(width, 3, padding="same", use_bias=False), layers.BatchNormalization()]
        net += [layers.Activation("relu", name=f"{name}_{place}"), layers.MaxPooling2D()]
    return keras.Sequential([*net, layers.GlobalAveragePooling2D(), layers.Dense(10, name=f"{name}_out")], name=name)


PAIRS = {
    "MLP 784-1200-1200-10 -> 784-800-800-10": (lambda: mlp((1200, 1200), "t"), lambda: mlp((800, 800), "s"), ("t_out", "s_out")),
    "CNN": (lambda: cnn((32, 64, 80), "t"), lambda: cnn((8, 16, 18), "s"), ("t_out", "s_out")),
}


class Clock(keras.callbacks.Callback):
    """Seconds from the first step of the epoch to its end, starting up and data set-up left out."""

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.begun


def variants(teacher, student, data, tap):
    """For each row of the table, a function that trains for one epoch and returns its seconds."""
    x, y, loss = data.train.x, data.train.y, LABELS(from_logits=True)
    soft, example = [kf.SoftTargets(4.0)], data.example(2)
    tapped, shares = [*soft, kf.Hints(*tap)], (0.4, 0.1)

    def fitting(model, together=1, **given):
        model.compile("adam", loss, metrics=["accuracy"], steps_per_execution=together)

        def run(epoch):
            clock = Clock()
            source = given["split"].dataset(BATCH, seed=0, start=epoch, epochs=epoch + 1) if "split" in given else x
            more = {"shuffle": False} if "split" in given else {"y": y, "batch_size": BATCH}
            model.fit(source, verbose=0, callbacks=[clock], **more)
            return clock.seconds

        return run

    def peer(losses, weights, together=1):
        made = keras.distillation.Distiller(
            teacher=copy_model(teacher), student=copy_model(student), distillation_losses=losses, distillation_loss_weights=weights,
            student_loss_weight=0.5,
        )  # fmt: skip
        return fitting(made, together)

    logits = keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence(), temperature=4.0)
    feature = keras.distillation.FeatureDistillation(loss="mse", teacher_layer_name=tap[0], student_layer_name=tap[1])
    lesson = targets(Teacher(teacher, "logits", tap[:1], example), data.train).lesson
    taught = TaughtSplit(data.train, ({"logits": lesson["logits"]},))
    shown = TaughtSplit(data.train, (lesson,))
    ours = steps_together("auto", data.train.steps(BATCH), ())
    kept = Distiller(copy_model(student), tapped, lessons=[lesson], loss_weights=shares, example=example)
    live = Distiller(copy_model(student), tapped, teacher=teacher, loss_weights=shares, example=example)
    found = {
        "plain student.fit": fitting(copy_model(student)),
        "kdfuse, teacher cached": fitting(Distiller(copy_model(student), soft), ours, split=taught),
        "kdfuse, teacher live": fitting(Distiller(copy_model(student), soft, teacher=teacher), ours, split=data.train),
        "kdfuse, teacher cached, logits and a feature": fitting(kept, ours, split=shown),
        "kdfuse, teacher live, logits and a feature": fitting(live, ours, split=data.train),
        "keras.distillation, logits": peer([logits], [0.5]),
    }
    if teacher.get_layer(tap[0]).output.shape == student.get_layer(tap[1]).output.shape:
        found["keras.distillation, logits and a feature"] = peer([logits, feature], [0.4, 0.1])
    found[f"plain student.fit, steps_per_execution={ours}"] = fitting(copy_model(student), ours)
    found[f"keras.distillation, logits, steps_per_execution={ours}"] = peer([logits], [0.5], ours)
    return found


def measure(pair, rounds, steps):
    build_teacher, build_student, tap = PAIRS[pair]
    random = np.random.default_rng(0)
    rows = steps * BATCH
    data = Data(
        train=(random.random((rows, 28, 28, 1), dtype="float32"), random.integers(0, 10, rows)), class_names=[str(i) for i in range(10)]
    )
    runs = variants(build_teacher(), build_student(), data, tap)
    seconds = {name: [] for name in runs}
    order = list(runs)
    for place in range(rounds + 1):
        for name in order[place % len(order) :] + order[: place % len(order)]:
            took = runs[name](place)
            if place:  # the first round traces
                seconds[name].append(took / steps)
        print(f"{pair}: round {place} of {rounds}", file=sys.stderr, flush=True)
    return seconds


def table(results):
    rows = []
    for pair, seconds in results["pairs"].items():
        plain = seconds["plain student.fit"]
        for name, own in seconds.items():
            low, middle, high = common.median_interval([ours / theirs for ours, theirs in zip(own, plain, strict=True)])
            rows.append([pair, name, f"{middle:.2f}x", f"{low:.2f} to {high:.2f}", f"{1000 * common.median_interval(own)[1]:.1f}"])
    note = "One process, rounds interleaved; ratio to plain `fit` in the same round, median with its 95 % interval"
    return f"{common.markdown(['pair', 'what', 'step cost', 'interval', 'ms a step'], rows)}\n\n{note} (`benchmarks/distill_step.py`)."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--table", action="store_true", help="only write the table of the documentation from the committed results")
    parser.add_argument("--quick", action="store_true", help="three rounds of sixteen steps; nothing is kept")
    chosen = parser.parse_args()
    if chosen.table:
        common.into_page(NAME, table(common.load(NAME)))
        return
    rounds, steps = (3, 16) if chosen.quick else (chosen.rounds, chosen.steps)
    results = {"pairs": {pair: measure(pair, rounds, steps) for pair in PAIRS}, "rounds": rounds, "steps": steps}
    print(table(results))
    if not chosen.quick:
        common.save(NAME, results)
        common.into_page(NAME, table(results))


if __name__ == "__main__":
    main()
