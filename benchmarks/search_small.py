r"""The best network under a limit of 20,000 parameters: searched against made by hand.

MNIST with 5,000 labelled images and spoken digits. `HalvingSearch` over the structure and the training of a convolutional network, 27
candidates, up to 27 epochs, by accuracy on validation; its winner is trained again from the start. By hand: two or three convolutions
and the head, as wide as the limit lets, trained for 27 epochs with Adam's own rate; and the same with BatchNorm and a cosine decay.
Settings were written down before any test figure was seen. Those with a first rung of three epochs came after the figures of the first
rows, where a rung of one epoch had kept small networks alone; they were run with other seeds.

    python benchmarks/search_small.py [--data "MNIST, 5,000 labels"] [--seeds 0 1 2]
    python benchmarks/search_small.py --seeds 3 4 5 --data "MNIST, 5,000 labels, first rung of 3 epochs" \
        "spoken digits, first rung of 3 epochs"
    python benchmarks/search_small.py --quick       one seed, few candidates; nothing is kept
    python benchmarks/search_small.py --table       only write the table of the documentation from the committed results
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common

import kdfuse as kf

NAME, LIMIT, EPOCHS = "search_small", 20_000, 27
MNIST = {"load": ["mnist", {"labels": 5_000}], "by hand": {"filters": [16, 28], "units": []}}
SPEECH = {"load": ["spoken_digits", {}], "by hand": {"filters": [16, 32, 40], "units": [], "global_pooling": "average"}}
SETS = {
    "MNIST, 5,000 labels": MNIST,
    "MNIST, 5,000 labels, first rung of 3 epochs": {**MNIST, "min_epochs": 3},
    "spoken digits, first rung of 3 epochs": {**SPEECH, "min_epochs": 3},
}
SPACE = {
    "build__layers": kf.Int(1, 4), "build__filters": kf.Int(6, 48, log=True), "build__units": [(), (16,), (32,), (64,)],
    "build__kernel_size": [3, 5], "build__activation": ["relu", "gelu", "leaky_relu"], "build__pooling": ["max", "average"],
    "build__global_pooling": ["flatten", "average"], "build__batch_norm": [False, True], "build__skip": [False, True],
    "build__dropout": kf.Float(0, 0.5), "training__optimizer": ["adam", "rmsprop", "momentum"],
    "training__learning_rate": kf.Float(3e-4, 3e-2, log=True), "training__decay": ["constant", "cosine"],
    "training__batch_size": [32, 64],
}  # fmt: skip
FIGURES = ("test/accuracy", "test/log_loss", "size/parameters", "cost/macs")


def run(settings, seed, quick):
    name, options = settings["load"]
    data = kf.datasets.load(name, seed=seed, **options)
    epochs = 2 if quick else EPOCHS
    search = kf.HalvingSearch(kf.Train(seed=seed), SPACE, max_epochs=epochs, maximize="accuracy", limits={"parameters": LIMIT}, refit=True,
                              seed=seed, n_trials=2 if quick else 27, min_epochs=1 if quick else settings.get("min_epochs", 1))  # fmt: skip
    _, found = search(kf.models.convnet, data)
    shape = {name: tuple(value) if isinstance(value, list) else value for name, value in settings["by hand"].items()}
    plain = kf.models.convnet(data, **shape, dropout=0.3, seed=seed)
    _, by_hand = kf.Train(epochs=epochs, seed=seed)(plain, data)
    modern = kf.models.convnet(data, **shape, dropout=0.3, batch_norm=True, seed=seed)
    _, better = kf.Train(epochs=epochs, decay="cosine", seed=seed)(modern, data)
    for report in (by_hand, better):
        assert report.metrics["size/parameters"] <= LIMIT, report.metrics["size/parameters"]
    reports = {"by hand": by_hand, "by hand, BatchNorm, cosine decay": better, "searched": found}
    rows = {row: {figure: one.metrics[figure] for figure in FIGURES} for row, one in reports.items()}
    rows["searched"]["winner"] = {
        name: value for name, value in found.tables["trials"][0].items() if name.startswith(("build", "training"))
    }
    rows["searched"]["seconds"] = found.seconds
    return rows


def table(results):
    lines = []
    for name, seeds in results.items():
        if name not in SETS:
            continue
        found = [seed["found"] for seed in seeds.values()]
        for row in found[0]:
            own = [one[row] for one in found]
            macs = statistics.mean(one["cost/macs"] for one in own)
            parameters = statistics.mean(one["size/parameters"] for one in own)
            accuracy = common.spread([100 * one["test/accuracy"] for one in own], 2)
            lines.append(
                [name, row, accuracy, common.spread([one["test/log_loss"] for one in own], 3), f"{parameters:,.0f}", f"{macs:,.0f}"]
            )
    count = min((len(seeds) for name, seeds in results.items() if name in SETS), default=0)
    header = ["data", "network", "test accuracy %", "log loss", "parameters", "MACs"]
    return f"{common.markdown(header, lines)}\n\nMean ± sd over {count} seeds (`benchmarks/{NAME}.py`)."


if __name__ == "__main__":
    common.over_seeds(NAME, __doc__, SETS, run, table)
