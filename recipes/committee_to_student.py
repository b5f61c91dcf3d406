"""Committee to student: five networks are averaged, and the average teaches a single small one, which is also trained alone.

Digits with 400 labels. Prints a table and logs every run to MLflow; `kdfuse ui` shows them. Takes about two minutes on two CPU cores.
"""

import argparse

import kdfuse as kf


def main(quick: bool = False, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits", labels=200 if quick else 400)
    training = kf.Train(epochs=1 if quick else 60, learning_rate=0.01, decay="cosine")

    with kf.track("committee to student", run=data.name, resume=not fresh):
        build = kf.models.convnet(data, filters=(16, 32), units=64, dropout=0.3)
        committee, _ = kf.Bagging(members=2 if quick else 5, training=training)(build, data, name="committee")
        distill = kf.Distill(committee, losses=[kf.SoftTargets(4.0)], label_weight=0.3, training=training, control=True)
        student, report = distill(kf.models.convnet(data, filters=(4, 8), units=()), data, name="student")

    print()
    print(report)
    kf.save_model(student, "student.keras")
    print("\nThe student is in student.keras, without the committee. See the runs with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows, members and epochs: to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.quick, given.fresh)
