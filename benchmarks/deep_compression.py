"""Deep Compression (Han, Mao and Dally 2016, arXiv 1510.00149) with kdfuse: prune, share weights, count Huffman-coded bytes.

LeNet-300-100 and the Caffe LeNet-5 on MNIST, at the paper's share of weights left (Han et al. 2015, arXiv 1506.02626: 12x), and the same
method on a convolutional network of the spoken digits. Per seed: the dense network; the same pruned at once, without training (the
control); pruned under its own teacher, the dense network; the weights of the kernels shared; bytes as the paper counts them
(`size/huffman_bytes`), beside those of the dense network as float32. Images of MNIST are moved by up to 4 or 7 % while training, in every
step alike. All figures are of the last epoch. Settings are chosen with `--validate`, on 10,000 of the 60,000 training images; test is read
once for each seed and step.

    python benchmarks/deep_compression.py                 interrupt it and start it again as you like
    python benchmarks/deep_compression.py --nets LeNet-5 --seeds 0
    python benchmarks/deep_compression.py --quick         one seed, few epochs, under five minutes; nothing is kept
    python benchmarks/deep_compression.py --validate      one seed, judged on validation rows; nothing is kept
    python benchmarks/deep_compression.py --table         only write the table of the documentation from the committed results
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import keras

import kdfuse as kf

NAME = "deep_compression"
STEPS = ("dense", "pruned at once", "pruned", "shared")
PAPER = {"LeNet-300-100": (1.64, 1.58, 40), "LeNet-5": (0.80, 0.74, 39)}  # dense error, compressed error (%), times smaller


def lenet_300_100(data, seed):
    return kf.models.mlp(data, units=(300, 100), seed=seed)


def lenet_5(data, seed):
    """Caffe's LeNet-5: convolutions of 20 and 50 filters, a dense layer of 500 units; 431,080 weights."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(data.input_shape),
            layers.Conv2D(20, 5, name="conv_1"),
            layers.MaxPooling2D(2, name="pool_1"),
            layers.Conv2D(50, 5, name="conv_2"),
            layers.MaxPooling2D(2, name="pool_2"),
            layers.Flatten(name="flatten"),
            layers.Dense(500, activation="relu", name="dense_1"),
            layers.Dense(data.classes, name="logits"),
        ],
        name="lenet_5",
    )


def spoken(data, seed):
    return kf.models.convnet(data, filters=(16, 32), units=128, global_pooling="flatten", seed=seed)


NETS = {
    # the share of weights left, by layer, is Han's (2015), for spoken digits a twelfth of all
    "LeNet-300-100": {
        "build": lenet_300_100, "data": "mnist", "epochs": (30, 80, 15), "rate": 1e-3, "shift": 0.04,
        "sparsity": 0.922, "layers": {"dense_2": 0.91, "logits": 0.74}, "clusters": 16,
    },
    "LeNet-5": {
        "build": lenet_5, "data": "mnist", "epochs": (20, 30, 8), "rate": 1e-3, "shift": 0.07,
        "sparsity": 0.92, "layers": {"conv_1": 0.34, "conv_2": 0.88, "logits": 0.81}, "clusters": 32,
    },
    "spoken digits": {
        "build": spoken, "data": "spoken_digits", "epochs": (30, 40, 10), "rate": 1e-3, "shift": 0,
        "sparsity": 0.92, "layers": {"conv_1": 0.34, "conv_2": 0.8, "logits": 0.8}, "clusters": 32,
    },
}  # fmt: skip


def training(net, epochs, seed, rate=1.0):
    """`shift` moves each training image by up to that share of its size, in every step of the method alike."""
    shift = keras.layers.RandomTranslation(net["shift"], net["shift"], fill_mode="constant") if net["shift"] else None
    rate *= net["rate"]
    return kf.Train(epochs=epochs, batch_size=128, learning_rate=rate, decay="cosine", augment=shift, seed=seed, checkpoint=5)


def run(net, data, seed, split):
    """Errors in per cent and bytes of each step, one seed."""
    dense_epochs, prune_epochs, share_epochs = net["epochs"]
    settings = {"sparsity": net["sparsity"], "layers": net["layers"]}

    def told(model, report):
        return {
            "error": 100 * (1 - report.metrics[f"{split}/accuracy"]),
            "nonzero": report.metrics["size/nonzero"],
            "parameters": report.metrics["size/parameters"],
            "bytes": report.metrics["size/huffman_bytes"],
        }

    dense, report = training(net, dense_epochs, seed)(net["build"](data, seed), data)
    found = {"dense": told(dense, report)}
    taught = kf.Distill(dense, losses=[kf.SoftTargets(4.0)], label_weight=0.5, training=training(net, prune_epochs, seed))
    at_once, report = kf.Prune(**settings, training=None)(dense, data)
    found["pruned at once"] = told(at_once, report)
    pruned, report = kf.Prune(**settings, training=taught)(dense, data)
    found["pruned"] = told(pruned, report)
    taught = kf.Distill(dense, losses=[kf.SoftTargets(4.0)], label_weight=0.5, training=training(net, share_epochs, seed, 0.1))
    shared, report = kf.Cluster(net["clusters"], training=taught)(pruned, data)
    found["shared"] = told(shared, report)
    return found


def described(net):
    return {name: value for name, value in net.items() if name != "build"}


def table(results):
    rows = []
    for name in NETS:
        seeds = [
            part["found"] for part in results.get(name, {}).values() if part["settings"] == json.loads(json.dumps(described(NETS[name])))
        ]
        if not seeds:
            continue
        for step in STEPS:
            error = common.spread([seed[step]["error"] for seed in seeds], 2)
            left = statistics.mean(seed[step]["nonzero"] / seed[step]["parameters"] for seed in seeds)
            ratio = statistics.mean(4 * seed["dense"]["parameters"] / seed[step]["bytes"] for seed in seeds)
            size = statistics.mean(seed[step]["bytes"] for seed in seeds) / 1000
            paper = PAPER.get(name, ("", "", ""))
            beside = {"dense": f"{paper[0]} %", "shared": f"{paper[1]} % at {paper[2]}x"}.get(step, "") if paper[0] else ""
            times = "1x" if step == "dense" else f"{ratio:.1f}x"
            size = 4 * seeds[0]["dense"]["parameters"] / 1000 if step == "dense" else size
            rows.append([name, step, error, f"{100 * left:.1f} %", f"{size:,.1f}", times, beside])
    header = ["net", "step", "test error %", "weights left", "KB", "smaller", "the paper"]
    count = max((len(found) for name, found in results.items() if name in NETS), default=0)
    note = f"Mean ± sd over {count} seeds; bytes with sparse gaps, codebooks and Huffman codes, all of it counted (`benchmarks/{NAME}.py`)."
    return f"{common.markdown(header, rows)}\n\n{note}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--validate", "--table"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    chosen = parser.parse_args()
    split = "validation" if chosen.validate else "test"
    for name in chosen.nets if not chosen.table else ():
        net = {**NETS[name], "epochs": (2, 2, 1)} if chosen.quick else NETS[name]
        # Without `--validate` all training rows of MNIST are trained on.
        data = kf.datasets.load(net["data"], **({} if net["data"] != "mnist" else {"validation": 1 / 6 if chosen.validate else 0}))
        data = data.with_splits(test=None) if chosen.validate else data
        for seed in chosen.seeds[:1] if chosen.quick or chosen.validate else chosen.seeds:
            done = {} if chosen.quick or chosen.validate else common.load(NAME).get(name, {}).get(str(seed), {})
            if done.get("settings") != json.loads(json.dumps(described(net))):
                begun = time.time()
                with kf.silence():
                    done = {"settings": described(net), "found": run(net, data, seed, split), "seconds": round(time.time() - begun)}
                if not (chosen.quick or chosen.validate):
                    results = common.load(NAME)
                    common.save(NAME, {**results, name: {**results.get(name, {}), str(seed): done}})
            print(f"{name}, seed {seed}: {json.dumps(done['found'])}", flush=True)
    if not (chosen.quick or chosen.validate):
        common.into_page(NAME, table(common.load(NAME)))


if __name__ == "__main__":
    main()
