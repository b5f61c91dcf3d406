"""What makes a LiteRT file faster and what makes it smaller only: fewer units, int8, zeros at random, zeros in blocks.

Three networks as `.tflite` files, run by LiteRT's interpreter at one row on one thread: a residual network (32x32 images), LeNet-5 and
an MLP 784-1024-1024-10. Shrunk to 75, 50 and 25 % of their units, in int8, both; the MLP also with 90 and 95 % of its weights zero, at
random places and in blocks of 16 inputs. Weights are as they were initialised: time does not depend on what a network has learned, only on
where zeros are. Every round times each file for 30 ms, in an order that rotates; a ratio is taken within a round.

    python benchmarks/latency.py [--rounds 21] [--quick]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import numpy as np

import kdfuse as kf

NAME, WHOLE = "latency", "as it is"
NETS = {
    "ResNet, 32x32x3": ((32, 32, 3), lambda data: kf.models.resnet(data, filters=(32, 64, 128))),
    "LeNet-5, 28x28x1": ((28, 28, 1), lambda data: kf.models.convnet(data, filters=(20, 50), kernel_size=5, units=500)),
    "MLP 784-1024-1024-10": ((784,), lambda data: kf.models.mlp(data, units=(1024, 1024))),
}


def random_rows(shape):
    random = np.random.default_rng(0)
    x, y = random.random((256, *shape), dtype="float32"), np.arange(256) % 10
    return kf.Data(train=(x, y))


def variants(net):
    """For each row of the table the model, how its file is written, and its MACs."""
    shape, build = NETS[net]
    data = random_rows(shape)
    whole = build(data)
    models = {WHOLE: whole}
    for keep in (0.75, 0.5, 0.25):
        models[f"Shrink, {keep:.0%} of the units"], _ = kf.Shrink(keep=keep, training=None)(whole, data)
    made = {name: (model, {}) for name, model in models.items()}
    made["int8"] = whole, {"quantize": "int8"}
    made["Shrink, 50% of the units, int8"] = models["Shrink, 50% of the units"], {"quantize": "int8"}
    for sparsity in (0.9, 0.95) if len(shape) == 1 else ():
        at_random, _ = kf.Prune(sparsity, training=None)(whole, data)
        blocks, _ = kf.Prune(sparsity, pattern=kf.Block(16, 1), training=None)(whole, data)
        made[f"{sparsity:.0%} zeros at random"] = at_random, {}
        made[f"{sparsity:.0%} zeros at random, stored sparse"] = at_random, {"sparse": True}
        made[f"{sparsity:.0%} zeros in blocks of 16, stored sparse"] = blocks, {"sparse": True}
        made[f"{sparsity:.0%} zeros in blocks of 16, stored sparse, int8"] = blocks, {"sparse": True, "quantize": "int8"}
    return data, made


def measure(net, rounds, milliseconds):
    data, made = variants(net)
    row = data.example(1)
    calls, found = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for place, (name, (model, settings)) in enumerate(made.items()):
            path = kf.export_model(model, Path(folder) / f"{place}.tflite", data=data, **settings)
            lite = kf.LiteModel(path)
            calls[name] = lite.prepare(row)
            found[name] = {"macs": kf.evaluate(model, data).metrics["cost/macs"], "bytes": lite.bytes, "ms": []}
    order = list(calls)
    for call in calls.values():
        timed(call, milliseconds)
    for place in range(rounds):
        for name in order[place % len(order) :] + order[: place % len(order)]:
            found[name]["ms"].append(timed(calls[name], milliseconds))
        print(f"{net}: round {place + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


def timed(call, milliseconds):
    """The median milliseconds of a call, over as many as fit."""
    taken, end = [], time.perf_counter() + milliseconds / 1000
    while len(taken) < 3 or time.perf_counter() < end:
        begun = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken)


def table(results):
    lines = []
    for net, found in results["nets"].items():
        whole = found[WHOLE]
        for name, one in found.items():
            low, middle, high = common.median_interval([base / own for own, base in zip(one["ms"], whole["ms"], strict=True)])
            lines.append([
                net, name, f"{one['macs']:,.0f}", f"{one['macs'] / whole['macs']:.2f}", f"{one['bytes'] / 1000:,.0f}",
                f"{statistics.median(one['ms']):.3f}", f"{middle:.2f}x", f"{low:.2f} to {high:.2f}",
            ])  # fmt: skip
    header = ["net", "file", "MACs", "share of MACs", "KB", "ms", "faster", "interval"]
    note = "One row, one thread, rounds interleaved; against the whole network in the same round: median with its 95 % interval"
    return f"{common.markdown(header, lines)}\n\n{note} (`benchmarks/{NAME}.py`)."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--table", action="store_true", help="only write the table of the documentation from the committed results")
    parser.add_argument("--quick", action="store_true", help="three short rounds; nothing is kept")
    chosen = parser.parse_args()
    if chosen.table:
        common.into_page(NAME, table(common.load(NAME)))
        return
    rounds, milliseconds = (3, 5) if chosen.quick else (chosen.rounds, 30)
    with kf.silence():
        results = {"nets": {net: measure(net, rounds, milliseconds) for net in NETS}, "rounds": rounds}
    print(table(json.loads(json.dumps(results))))
    if not chosen.quick:
        common.save(NAME, results)
        common.into_page(NAME, table(results))


if __name__ == "__main__":
    main()
