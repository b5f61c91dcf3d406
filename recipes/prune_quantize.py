"""Prune and quantize: a convolutional network of digits with four fifths of its weights at zero, as an int8 LiteRT file.

The pruned network learns from the one it came from. Prints a table and logs every run to MLflow; `kdfuse ui` shows them. Takes about a
minute on two CPU cores.
"""

import argparse
import shutil

import kdfuse as kf

COLUMNS = ("model", "test/accuracy", "tflite/accuracy", "size/parameters", "size/nonzero", "size/keras_bytes", "size/tflite_bytes",
           "size/gzip_bytes", "size/tflite_gzip_bytes", "latency/p50_ms", "latency/tflite_p50_ms")  # fmt: skip


def main(epochs: int = 30, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits")

    with kf.track("prune-quantize", run="digits: 80 % zeros, int8", resume=not fresh):
        build = kf.models.convnet(data, filters=(32, 64), units=(), batch_norm=True, dropout=0.3)
        model, dense = kf.Train(epochs=epochs)(build, data, name="dense")

        again = kf.Distill(model, label_weight=0.5, training=kf.Train(epochs=epochs))
        compress = kf.Chain([kf.Prune(0.8, training=again), kf.QuantizeAware(training=kf.Train(epochs=3, learning_rate=1e-4))])
        small, report = compress(model, data, name="small")

    print()
    print(kf.format_table([{"model": "dense", **dense.metrics}, *report.tables["steps"]], COLUMNS))
    shutil.copy(report.files["tflite"], "small.tflite")
    kf.save_model(small, "small.keras")
    print("\nsmall.tflite runs on a phone; small.keras is the same as a plain Keras model.")
    print("Measure the file again with: python3 kd.py run kdfuse measure small.tflite --data digits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the dense network, and of its pruning")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.epochs, given.fresh)
