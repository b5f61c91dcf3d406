"""Quickstart: a teacher, a student distilled from it, and the same student without the teacher, on scikit-learn's digits.

Prints a table and logs every run to MLflow; `kdfuse ui` shows them. Takes about a minute on two CPU cores.
"""

import argparse

import kdfuse as kf


def main(epochs: int = 30) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits")

    with kf.track("quickstart", run="digits: a convnet teaches 30-30"):
        build = kf.models.convnet(data, filters=(32, 64), units=64, batch_norm=True, dropout=0.3)
        teacher, _ = kf.Train(epochs=epochs)(build, data, name="teacher")

        distill = kf.Distill(
            teacher,
            losses=[kf.SoftTargets(temperature=4.0)],
            label_weight=0.1,
            training=kf.Train(epochs=2 * epochs),
            control=True,
        )
        student, report = distill(kf.models.mlp(data, units=(30, 30)), data, name="student")

    print()
    print(report)
    kf.save_model(student, "student.keras")
    print("\nThe student is in student.keras: a plain Keras model. See the runs with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the teacher; the student trains twice as long")
    main(parser.parse_args().epochs)
