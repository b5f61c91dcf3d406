"""What an ensemble of five costs to ask: a loop of `predict`, a loop of calls, and the one graph that kdfuse makes of it.

Five equal MLPs (784-256-256-10) and five equal convolutional networks, random weights, batches of 1, 32 and 1024 rows of MNIST's shape. One
process, rounds that take turns; each ratio is to the one graph in the same round: the median with its 95 % interval.

    python benchmarks/ensemble_inference.py            about three minutes
    python benchmarks/ensemble_inference.py --quick    few rounds; nothing is kept
    python benchmarks/ensemble_inference.py --table    only write the table of the documentation from the committed results
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import keras
import numpy as np
import tensorflow as tf

import kdfuse as kf

NAME, MEMBERS, BATCHES = "ensemble_inference", 5, (1, 32, 1024)
SETTINGS = {"members": MEMBERS, "batches": BATCHES, "rounds": 21}
ONE = "one graph"


def nets(data):
    return {
        "5 MLPs 784-256-256-10": [kf.models.mlp(data, units=(256, 256), seed=seed) for seed in range(MEMBERS)],
        "5 CNNs": [kf.models.convnet(data, filters=(16, 32), units=64, seed=seed) for seed in range(MEMBERS)],
    }


def ways(models, data):
    """For each way to ask the ensemble a function of a batch that gives its probabilities in NumPy."""
    with kf.silence():
        joined, _ = kf.Parallel()(models, data)
    graph = tf.function(lambda x: joined(x, training=False), reduce_retracing=False)
    calls = [tf.function(lambda x, model=model: model(x, training=False), reduce_retracing=False) for model in models]

    def mean(found):
        return np.mean([np.asarray(keras.ops.softmax(one)) for one in found], axis=0)

    return {
        "loop of predict": lambda x: mean([model.predict(x, verbose=0, batch_size=len(x)) for model in models]),
        "loop of predict_on_batch": lambda x: mean([model.predict_on_batch(x) for model in models]),
        "loop of compiled calls": lambda x: mean([call(tf.constant(x)) for call in calls]),
        ONE: lambda x: graph(tf.constant(x)).numpy(),
    }


def run(rounds):
    rng = np.random.default_rng(0)
    x, y = rng.random((2048, 28, 28, 1)).astype("float32"), np.arange(2048) % 10
    data = kf.Data(train=(x[:64], y[:64]), validation=(x[:64], y[:64]))
    found = {}
    for net, models in nets(data).items():
        asked = ways(models, data)
        for size in BATCHES:
            batch, names = x[:size], list(asked)
            want = asked[ONE](batch)
            for name in names:
                np.testing.assert_allclose(asked[name](batch), want, atol=1e-5)
            times = {name: [] for name in names}
            for place in range(rounds):
                for name in names[place % len(names) :] + names[: place % len(names)]:
                    repeats = 1 if name == "loop of predict" or size == 1024 else 5
                    begun = time.perf_counter()
                    for _ in range(repeats):
                        asked[name](batch)
                    times[name].append((time.perf_counter() - begun) / repeats)
            found[f"{net}, batch {size}"] = times
            print(net, size, {name: f"{1000 * np.median(values):.2f} ms" for name, values in times.items()}, flush=True)
    return found


def table(results):
    rows = []
    for case, times in results["times"].items():
        for name, values in times.items():
            low, middle, high = common.median_interval([own / base for own, base in zip(values, times[ONE], strict=True)])
            ms = 1000 * float(np.median(values))
            rows.append([case, name, f"{middle:.2f}x", f"{low:.2f} to {high:.2f}", f"{ms:.2f}"])
    note = "One process, rounds interleaved; ratio to the one graph in the same round, median with its 95 % interval"
    return f"{common.markdown(['ensemble', 'asked by', 'time', 'interval', 'ms'], rows)}\n\n{note} (`benchmarks/{NAME}.py`)."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--table"):
        parser.add_argument(flag, action="store_true")
    chosen = parser.parse_args()
    if not chosen.table:
        times = run(3 if chosen.quick else SETTINGS["rounds"])
        if chosen.quick:
            return
        common.save(NAME, {"settings": json.loads(json.dumps(SETTINGS)), "times": times})
    common.into_page(NAME, table(common.load(NAME)))


if __name__ == "__main__":
    main()
