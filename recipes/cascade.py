"""Cascade: a small network answers, and asks a committee of larger ones only where it is unsure. Spoken digits.

How unsure it must be is chosen on the validation split: for the most accuracy at a fifth of the last model's MACs. Prints tables and
logs every run to MLflow; `kdfuse ui` shows them. Takes about two and a half minutes on two CPU cores.
"""

import argparse

import kdfuse as kf

COLUMNS = ("model", "validation/accuracy", "test/accuracy", "test/log_loss", "test/ece", "size/parameters", "cost/macs")
STAGES = ("stage", "model", "cost/macs", "threshold", "temperature", "leave on validation", "leave on test", "right of them")


def main(quick: bool = False, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits" if quick else "spoken_digits")
    training = kf.Train(epochs=1 if quick else 20, decay="cosine", batch_size=64)

    with kf.track("cascade", run=f"{data.name}: small, then three large", resume=not fresh):
        small, _ = training(kf.models.convnet(data, filters=(4, 8), units=()), data, name="small")
        members = []
        for seed in range(2 if quick else 3):
            build = kf.models.convnet(data, filters=(32, 64), units=64, dropout=0.3, seed=seed)
            members.append(training(build, data, name=f"large {seed}")[0])
        committee, _ = kf.Parallel()(members, data, name="committee")
        cascade, report = kf.Cascade(target="cost", cost=0.2)([small, committee], data, name="cascade")

    print()
    print(kf.format_table(report.rows(), COLUMNS))
    print("\nThe members as stages:")
    print(kf.format_table([{**row, "cost/macs": row["macs"]} for row in report.tables["stages"]], STAGES))
    print(*report.notes, sep="\n")
    kf.save_model(cascade, "cascade.keras")
    print("\nThe cascade is one Keras model, in cascade.keras. See the runs with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits and one epoch: to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.quick, given.fresh)
