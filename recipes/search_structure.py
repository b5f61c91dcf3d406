"""Search the structure of a network: dense or convolutional, how many layers, how wide, under a limit of parameters. Digits.

Successive halving tries 27 candidates for a few epochs and trains the best of them on; small dense networks among them train side by side
without TensorFlow. Prints the best trials, the front of accuracy against MACs and the winner beside a network made by hand, and logs
every trial to MLflow; `kdfuse ui` shows them. A killed search goes on where it stopped. Takes about a minute
on two CPU cores.
"""

import argparse

import kdfuse as kf

SPACE = {
    "build": [kf.models.mlp, kf.models.convnet],
    "build__layers": kf.Int(1, 3),
    "build__filters": kf.Int(4, 32, log=True),
    "build__units": kf.Int(8, 128, log=True),
    "build__activation": ["relu", "tanh", "gelu", "leaky_relu"],
    "build__pooling": ["max", "average"],
    "build__batch_norm": [False, True],
    "build__dropout": kf.Float(0, 0.5),
    "training__optimizer": ["adam", "rmsprop", "sgd"],
    "training__learning_rate": kf.Float(1e-4, 1e-1, log=True),
    "training__decay": ["constant", "cosine"],
    "training__batch_size": [32, 64],
    "training__l2": kf.Float(1e-6, 1e-2, log=True),
}
COLUMNS = ("model", "status", "validation/accuracy", "size/parameters", "cost/macs", "epochs", "how")
FRONT = ("model", "validation/accuracy", "test/accuracy", "test/macro_f1", "size/parameters", "cost/macs")


def main(quick: bool = False, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits")
    epochs, limit = 4 if quick else 27, 20_000
    search = kf.HalvingSearch(
        kf.Train(), SPACE, max_epochs=epochs, eta=2 if quick else 3, maximize="accuracy", minimize="macs", limits={"parameters": limit}
    )

    with kf.track("search structure", run=f"{data.name}: at most {limit:,} parameters", resume=not fresh):
        best, report = search(None, data)
        by_hand = kf.models.mlp(data, units=(148, 64))
        _, other = kf.Train(epochs=epochs)(by_hand, data, name="by hand")

    print()
    print(kf.format_table(report.tables["trials"][:8], COLUMNS))
    print("\nThe front:")
    print(kf.format_table(report.tables["front"], FRONT))
    print()
    print(kf.format_table([*report.rows(), {"model": "by hand", **other.metrics}]))
    print(*report.notes, sep="\n")
    kf.save_model(best, "searched.keras")
    print("\nThe winner is in searched.keras. See the trials with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four candidates and few epochs: to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.quick, given.fresh)
