"""Quickstart, on scikit-learn's digits: distil, prune, quantize, shrink and combine.

A teacher; a student distilled from it, and the same student without the teacher; the student with four fifths of its weights at zero in
an int8 LiteRT file; the teacher with half of its units; the three as a committee; and a cascade, in which the student asks the teacher
only where it is unsure. Prints a table and logs every run to MLflow; `kdfuse ui` shows them. Takes about two minutes on two CPU cores.
"""

import argparse
import shutil

import kdfuse as kf

COLUMNS = ("model", "test/accuracy", "tflite/accuracy", "size/parameters", "size/nonzero", "size/keras_bytes", "size/tflite_bytes",
           "cost/macs", "latency/p50_ms", "latency/tflite_p50_ms")  # fmt: skip


def main(epochs: int = 30, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits")

    with kf.track("quickstart", run="digits: a convnet teaches 30-30", resume=not fresh):
        build = kf.models.convnet(data, filters=(32, 64), units=64, batch_norm=True, dropout=0.3)
        teacher, _ = kf.Train(epochs=epochs)(build, data, name="teacher")

        distill = kf.Distill(
            teacher,
            losses=[kf.SoftTargets(temperature=4.0)],
            label_weight=0.1,
            training=kf.Train(epochs=2 * epochs),
            control=True,
        )
        student, distilled = distill(kf.models.mlp(data, units=(30, 30)), data, name="student")

        again = kf.Distill(teacher, label_weight=0.1, training=kf.Train(epochs=epochs))
        compress = kf.Chain([kf.Prune(0.8, training=again), kf.QuantizeAware(training=kf.Train(epochs=3, learning_rate=1e-4))])
        _, small = compress(student, data, name="student, 80 % zeros, int8")
        half, shrunk = kf.Shrink(keep=0.5, training=again)(teacher, data, name="teacher, half of its units")

        _, committee = kf.Parallel()([teacher, half, student], data, name="committee of the three")
        cheap = kf.Cascade(target="cost", cost=0.2)  # the most accuracy at a fifth of the teacher's MACs
        _, cascade = cheap([student, teacher], data, name="cascade: student, then teacher")

    print()
    print(distilled)
    print()
    others = ({"model": one.name, **one.metrics} for one in (small, shrunk, committee, cascade))
    print(kf.format_table([*distilled.rows(), *others], COLUMNS))
    print(f"\nIn the cascade {cascade.metrics['cascade/asked']:.1%} of the test rows ask the teacher; its MACs are the mean over the rows.")
    kf.save_model(student, "student.keras")
    shutil.copy(small.files["tflite"], "student.tflite")
    print("The student is in student.keras, a plain Keras model; in student.tflite it is pruned and int8.")
    print("See the runs with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the teacher; the student trains twice as long")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.epochs, given.fresh)
