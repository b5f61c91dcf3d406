"""Every way to combine models against the best single one: MNIST with 1,000 labels and spoken digits.

Per seed five convolutional networks are trained from different weights, on the same rows. Rows of the table: the mean over the members; the
best member by validation; each combiner; stacking on out-of-fold predictions and on the validation split; a gate; a soup of
branches from a shared start, and of the five members, which have none; snapshots and a weight average of one run; bagging and
boosting of five. Settings are the defaults of kdfuse; test is read once for each row.

    python benchmarks/ensembles.py [--seeds 0 1 2] [--data "MNIST, 1,000 labels" "spoken digits"]
    python benchmarks/ensembles.py --quick       one seed, one epoch; nothing is kept
    python benchmarks/ensembles.py --table       only write the table of the documentation from the committed results
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common

import kdfuse as kf

NAME, MEMBERS = "ensembles", 5
SETS = {
    "MNIST, 1,000 labels": {"load": ("mnist", {"labels": 1_000}), "epochs": 30},
    "spoken digits": {"load": ("spoken_digits", {}), "epochs": 10},
}
FIRST = ("member, mean of five", "best member by validation", "mean", "mean, calibrated")
"""Rows that stand before the others: what is compared with."""
FIGURES = ("test/accuracy", "test/log_loss", "test/ece", "cost/macs")
COMBINERS = {
    "mean": kf.Mean(), "weighted, greedy": kf.Weighted(fit="greedy"), "weighted, convex": kf.Weighted(fit="convex"),
    "geometric mean": kf.GeometricMean(), "median": kf.Median(), "trimmed mean": kf.TrimmedMean(), "max": kf.Max(), "vote": kf.HardVote(),
}  # fmt: skip


def run(settings, seed, quick):
    name, options = settings["load"]
    data = kf.datasets.load(name, seed=seed, **options)
    epochs = 1 if quick else settings["epochs"]
    training = kf.Train(epochs=epochs, batch_size=32, decay="cosine", seed=seed)

    def build(number):
        return kf.models.convnet(data, filters=(16, 32), units=64, dropout=0.3, seed=100 * seed + number)

    trained = [training(build(number), data) for number in range(MEMBERS)]
    models, singles = [model for model, _ in trained], [report for _, report in trained]
    found = {"member, mean of five": _mean([_told(one) for one in singles])}
    found["best member by validation"] = _told(max(singles, key=lambda one: one.metrics["validation/accuracy"]))
    for row, combiner in COMBINERS.items():
        found[row] = _told(kf.Parallel(combiner)(models, data)[1])
    mean = kf.Parallel()(models, data)[0]
    found["mean, calibrated"] = _told(kf.Calibrate()(mean, data)[1])
    found["stacked, 3 folds"] = _told(kf.Stack(folds=2 if quick else 3, training=training)(models, data)[1])
    found["stacked on validation"] = _told(kf.Stack(folds=None)(models, data)[1])
    found["gate, frozen members"] = _told(kf.Gate(training=kf.Train(epochs=max(1, epochs // 3), seed=seed))(models, data)[1])
    start = training(build(0), data)[0]
    short = [kf.Train(epochs=max(1, epochs // 3), decay="cosine", seed=100 * seed + number)(start, data) for number in range(MEMBERS)]
    found["soup, shared start"] = _told(kf.Soup()([model for model, _ in short], data)[1])
    try:
        found["soup of the members"] = _told(kf.Soup(how="uniform")(models, data)[1])
    except RuntimeError:
        found["soup of the members"] = None
    cycles = kf.Train(epochs=MEMBERS if quick else epochs, seed=seed)
    found["snapshots of one run"] = _told(kf.Snapshots(cycles=MEMBERS, training=cycles)(build(0), data)[1])
    found["weight average of one run"] = _told(
        kf.WeightAverage(training=kf.Train(epochs=8 if quick else epochs, seed=seed))(build(0), data)[1]
    )
    found["bagging"] = _told(kf.Bagging(members=MEMBERS, bootstrap=True, training=training)(build(0), data)[1])
    found["boosting, SAMME"] = _told(kf.Boost(members=MEMBERS, training=training)(build(0), data)[1])
    return found


def _told(report):
    return {figure: report.metrics[figure] for figure in FIGURES if figure in report.metrics}


def _mean(rows):
    return {figure: statistics.mean(row[figure] for row in rows) for figure in rows[0]}


def table(results):
    lines = []
    for name, seeds in results.items():
        if name not in SETS:
            continue
        found = [seed["found"] for seed in seeds.values()]
        best = [seed["best member by validation"]["test/accuracy"] for seed in found]
        for row in sorted(found[0], key=lambda row: FIRST.index(row) if row in FIRST else len(FIRST)):
            own = [seed[row] for seed in found]
            if None in own:
                lines.append([name, row, f"refused in {own.count(None)} of {len(own)}", "", "", "", ""])
                continue
            gains = [100 * (one["test/accuracy"] - other) for one, other in zip(own, best, strict=True)]
            singles = [seed["best member by validation"]["cost/macs"] for seed in found]
            macs = statistics.mean(one["cost/macs"] / other for one, other in zip(own, singles, strict=True))
            accuracy, ece = ([100 * one[figure] for one in own] for figure in ("test/accuracy", "test/ece"))
            gain = "" if row.startswith("best") else common.spread(gains, 2)
            loss = common.spread([one["test/log_loss"] for one in own], 3)
            lines.append([name, row, common.spread(accuracy, 2), gain, loss, common.spread(ece, 2), f"{macs:.1f}x"])
    header = ["data", "model", "test accuracy %", "to the best member", "log loss", "calibration error %", "MACs of a member"]
    count = max((len(seeds) for name, seeds in results.items() if name in SETS), default=0)
    return f"{common.markdown(header, lines)}\n\nMean ± sd over {count} seeds (`benchmarks/{NAME}.py`)."


if __name__ == "__main__":
    common.over_seeds(NAME, __doc__, SETS, run, table)
