"""Shrink: a convolutional network of spoken digits with half of its filters and neurons removed, beside the same small one from scratch.

Prints a table and logs every run to MLflow; `kdfuse ui` shows them. Takes about two minutes on two CPU cores.
"""

import argparse

import kdfuse as kf


def main(quick: bool = False, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits" if quick else "spoken_digits")
    epochs = 1 if quick else 15

    with kf.track("shrink", run=f"{data.name}: half of the filters", resume=not fresh):
        build = kf.models.convnet(data, filters=(32, 64, 64), units=64, batch_norm=True, dropout=0.3)
        large, _ = kf.Train(epochs=epochs, decay="cosine")(build, data, name="large")

        shrink = kf.Shrink(keep=0.5, criterion="taylor", training=kf.Train(epochs=epochs, decay="cosine"), control=True)
        small, report = shrink(large, data, name="small")

    print()
    print(report)
    kf.save_model(small, "small.keras")
    kf.export_model(small, "small.tflite", data=data)
    print("\nThe small model is in small.keras and small.tflite. See the runs with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits and one epoch: to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.quick, given.fresh)
