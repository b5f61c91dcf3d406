"""The accuracy of a committee at a third of its cost: a small network answers, and asks the committee where it is unsure.

MNIST with 5,000 labelled images and spoken digits: five convolutional networks of different seeds, averaged, are the committee; a
network of 5 to 26 % of one member's MACs stands before it, in the cascade of three stages the best member (by validation) too. Thresholds
are chosen on validation, for the committee's accuracy there, or for the most accuracy at a third of its MACs; so was the small network
of MNIST, among three sizes on one seed. Per seed: accuracy on test; mean MACs at the exit rates on test; time of rows of the test
split in batches of 1 and of 256, in rounds that take turns, as a ratio to the committee's.

    python benchmarks/cascade.py [--seeds 0 1 2] [--data "MNIST, 5,000 labels" "spoken digits"]
    python benchmarks/cascade.py --quick       one seed, few epochs; nothing is kept
    python benchmarks/cascade.py --table       only write the table of the documentation from the committed results
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import tensorflow as tf

import kdfuse as kf

NAME, MEMBERS, ROUNDS = "cascade", 5, 5
SETS = {
    "MNIST, 5,000 labels": {"load": ("mnist", {"labels": 5_000}), "epochs": (30, 12), "small": (8, 16), "large": (16, 32)},
    "spoken digits": {"load": ("spoken_digits", {}), "epochs": (30, 30), "small": (4, 8), "large": (16, 32)},
}
"""Epochs and filters of the small network, and of a member."""
ROWS = ("small", "best member", "committee", "cascade: small, committee", "cascade: small, best member, committee",
        "cascade: small, committee, the most accuracy at a third")  # fmt: skip
BATCHES = {1: 200, 256: 2_560}
"""Rows of test that are timed, by the size of a batch."""


def run(settings, seed, quick):
    name, options = settings["load"]
    data = kf.datasets.load(name, seed=seed, **options)

    def member(size, epochs, number, units=()):
        training = kf.Train(epochs=2 if quick else epochs, batch_size=64, decay="cosine", seed=seed)
        return training(kf.models.convnet(data, filters=size, units=units, dropout=0.3, seed=100 * seed + number), data)

    small, small_report = member(settings["small"], settings["epochs"][0], 99)
    members = [member(settings["large"], settings["epochs"][1], number, (64,)) for number in range(MEMBERS)]
    best, best_report = max(members, key=lambda made: made[1].metrics["validation/accuracy"])
    committee, committee_report = kf.Parallel()([model for model, _ in members], data)
    cascade, cascade_report = kf.Cascade(target="accuracy")([small, committee], data)
    three, three_report = kf.Cascade(target="accuracy")([small, best, committee], data)
    third, third_report = kf.Cascade(target="cost", cost=1 / 3)([small, committee], data)
    reports = dict(zip(ROWS, (small_report, best_report, committee_report, cascade_report, three_report, third_report), strict=True))
    found = {
        row: {figure: one.metrics[figure] for figure in ("test/accuracy", "test/log_loss", "cost/macs")} for row, one in reports.items()
    }
    for row, ratios in timed(dict(zip(ROWS, (small, best, committee, cascade, three, third), strict=True)), data).items():
        found[row]["time"] = ratios
    return found


def timed(models, data):
    """For each model and batch size the share of the committee's time, the median of rounds that take turns."""
    x, shares = data.test.head(10**9)[0], {row: {} for row in models}
    for size, count in BATCHES.items():
        rows = x[:count]
        calls = {row: tf.function(lambda batch, model=model: model(batch, training=False)) for row, model in models.items()}
        seconds = {row: [] for row in models}
        for place in range(ROUNDS + 1):
            for row in [*models][place % len(models) :] + [*models][: place % len(models)]:
                begun = time.perf_counter()
                for start in range(0, len(rows) - size + 1, size):
                    calls[row](tf.constant(rows[start : start + size])).numpy()
                if place:  # the first round traces
                    seconds[row].append(time.perf_counter() - begun)
        for row in models:
            shares[row][str(size)] = statistics.median(own / base for own, base in zip(seconds[row], seconds["committee"], strict=True))
    return shares


def table(results):
    lines = []
    for name, seeds in results.items():
        if name not in SETS:
            continue
        found = list(seeds.values())
        for row in (row for row in ROWS if row in found[0]["found"]):
            own = [seed["found"][row] for seed in found]
            macs = statistics.mean(one["cost/macs"] / seed["found"]["committee"]["cost/macs"] for one, seed in zip(own, found, strict=True))
            times = [f"{statistics.mean(one['time'][str(size)] for one in own):.2f}" if "time" in own[0] else "" for size in BATCHES]
            accuracy = common.spread([100 * one["test/accuracy"] for one in own], 2)
            lines.append([name, row, accuracy, common.spread([one["test/log_loss"] for one in own], 3), f"{macs:.3f}", *times])
    header = [
        "data",
        "model",
        "test accuracy %",
        "log loss",
        "share of the committee's MACs",
        *(f"of its time, batch {size}" for size in BATCHES),
    ]
    count = max((len(seeds) for name, seeds in results.items() if name in SETS), default=0)
    note = f"Mean ± sd over {count} seeds; MACs of a cascade at the exit rates on test"
    return f"{common.markdown(header, lines)}\n\n{note} (`benchmarks/{NAME}.py`)."


if __name__ == "__main__":
    common.over_seeds(NAME, __doc__, SETS, run, table)
