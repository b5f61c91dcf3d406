"""Quickstart: a teacher, a student distilled from it, and the same student without the teacher, on scikit-learn's digits.

Prints a table and logs every run to MLflow; `kdfuse ui` shows them. Takes about a minute on two CPU cores.
"""

import argparse

import kdfuse as kf


def main(epochs: int = 30) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits", labels=300)

    with kf.track("quickstart", run="digits: 400-400 teaches 30-30"):
        teacher, report = kf.Train(epochs=epochs, learning_rate=2e-3)(
            kf.models.mlp(data, units=(400, 400), dropout=0.3), data, name="teacher"
        )
        student, report = kf.Distill(
            teacher,
            losses=[kf.SoftTargets(temperature=4.0)],
            training=kf.Train(epochs=2 * epochs, learning_rate=2e-3),
            control=True,
        )(kf.models.mlp(data, units=(30, 30)), data, name="student")

    print()
    print(report)
    kf.save_model(student, "student.keras")
    print("\nThe student is in student.keras: a plain Keras model. See the runs with: kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the teacher; the student trains twice as long")
    main(parser.parse_args().epochs)
