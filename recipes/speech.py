"""Speech: a recurrent teacher, a small convolutional student distilled from it, and the same student without the teacher.

The data are 3,000 spoken digits of six speakers, as pictures of 40 mel bands over 64 windows: the teacher reads them window by
window, the student as pictures. Prints a table and logs every run to MLflow; `kdfuse ui` shows them. Takes about a minute on
two CPU cores.
"""

import argparse

import kdfuse as kf


def main(quick: bool = False, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("spoken_digits", **({"labels": 100, "frames": 16, "mels": 12} if quick else {}))

    with kf.track("speech", run="spoken digits: a GRU teaches a convnet", resume=not fresh):
        build = kf.models.recurrent(data, units=(64, 64), dropout=0.3)
        teacher, _ = kf.Train(epochs=1 if quick else 12, decay="cosine")(build, data, name="teacher")

        distill = kf.Distill(
            teacher,
            losses=[kf.SoftTargets(temperature=2.0)],
            label_weight=0.1,
            training=kf.Train(epochs=1 if quick else 12, learning_rate=0.003, decay="cosine"),
            control=True,
        )
        small = kf.models.convnet(data, filters=(4, 8, 8), batch_norm=True, units=(), dropout=0.3, name="student")
        student, report = distill(small, data, name="student")

    print()
    print(report)
    kf.save_model(student, "student.keras")
    print("\nThe student is in student.keras: a plain Keras model. See the runs with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few recordings, small pictures, one epoch: to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.quick, given.fresh)
