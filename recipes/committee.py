"""Combine: five networks of digits as one committee: averaged, with weights fitted on validation, stacked.

The members learn from 400 labels; the average is also made as sure as it is right, by a temperature fitted on validation. Prints a table
and logs every run to MLflow; `kdfuse ui` shows them. Takes about two minutes on two CPU cores.
"""

import argparse

import kdfuse as kf

COLUMNS = ("model", "validation/accuracy", "test/accuracy", "test/log_loss", "test/ece", "size/parameters", "cost/macs", "latency/p50_ms")


def main(quick: bool = False, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits", labels=200 if quick else 400)
    training = kf.Train(epochs=1 if quick else 30, learning_rate=0.01, decay="cosine")

    with kf.track("committee", run=f"{data.name}: five members", resume=not fresh):
        members = []
        for seed in range(2 if quick else 5):
            build = kf.models.convnet(data, filters=(8, 16), units=32, dropout=0.2, seed=seed)
            members.append(training(build, data, name=f"seed {seed}")[0])
        mean, averaged = kf.Parallel()(members, data, name="mean")
        _, weighted = kf.Parallel(kf.Weighted(fit="convex"))(members, data, name="weights fitted on validation")
        _, stacked = kf.Stack(folds=2 if quick else 5, training=training)(members, data, name="stacked")
        calibrated, sure = kf.Calibrate()(mean, data, name="mean, calibrated")

    print()
    print(
        kf.format_table(
            [*averaged.rows()[1:], *({"model": one.name, **one.metrics} for one in (averaged, weighted, stacked, sure))], COLUMNS
        )
    )
    print(*averaged.notes, sep="\n")
    kf.save_model(calibrated, "committee.keras")
    print("\nThe committee is one Keras model, in committee.keras. See the runs with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows, members and epochs: to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.quick, given.fresh)
