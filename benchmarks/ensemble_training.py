"""Members of one structure trained at once, as one batched computation, against one after another.

5 and 32 MLPs (64-64-64-10) on scikit-learn's digits, and 5 of MNIST's size (784-256-256-10, 6,000 rows), 10 epochs, batches of 64, Adam:
wall time of the whole training, tracing included. One process, rounds that take turns; ratios to training at once in the same round,
medians. The weights are compared, beside what rounding alone does to one of the networks.

    python benchmarks/ensemble_training.py            about eight minutes
    python benchmarks/ensemble_training.py --quick    one round of the smallest; nothing is kept
    python benchmarks/ensemble_training.py --table    only write the table of the documentation from the committed results
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

import kdfuse as kf
from kdfuse.population.fit import fit_together

NAME, ROUNDS, EPOCHS = "ensemble_training", 5, 10
AT_ONCE = "at once"
GAP, MOVED = "largest difference of a weight", "largest difference where the start is moved by 1e-7"
CASES = {
    "5 MLPs 64-64-64-10": {"members": 5, "data": ("digits", {}), "units": (64, 64)},
    "32 MLPs 64-64-64-10": {"members": 32, "data": ("digits", {}), "units": (64, 64)},
    "5 MLPs 784-256-256-10": {"members": 5, "data": ("mnist", {"labels": 6_000}), "units": (256, 256)},
}


def run(case, rounds):
    name, options = case["data"]
    data = kf.datasets.load(name, **options).with_splits(validation=None, test=None)
    training = kf.Train(epochs=EPOCHS, batch_size=64, checkpoint=0)
    times, gap = {AT_ONCE: [], "kdfuse, one after another": [], "plain fit, one after another": []}, 0.0

    def students():
        return [training.private(kf.models.mlp(data, units=case["units"], seed=seed), data) for seed in range(case["members"])]

    def at_once():
        models = students()
        begun = time.perf_counter()
        fit_together(models, data, training, None, [training.seed] * len(models))
        return models, time.perf_counter() - begun

    def kdfuse():
        models = students()
        begun = time.perf_counter()
        for model in models:
            training.fit(model, data)
        return models, time.perf_counter() - begun

    def plain():
        models = students()
        x, y, _ = data.train.head(10**6)
        begun = time.perf_counter()
        for model in models:
            model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
            model.fit(x, y, batch_size=64, epochs=EPOCHS, verbose=0)
        return models, time.perf_counter() - begun

    ways = dict(zip(times, (at_once, kdfuse, plain), strict=True))
    for place in range(rounds):
        made = {}
        for way in [*ways][place % 3 :] + [*ways][: place % 3]:
            made[way], seconds = ways[way]()
            times[way].append(seconds)
        pairs = zip(made[AT_ONCE], made["kdfuse, one after another"], strict=True)
        gap = max(
            gap, *(float(np.abs(a - b).max()) for one, other in pairs for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
        )
    return {"times": times, GAP: gap, MOVED: moved(case, data, training)}


def moved(case, data, training):
    """How far rounding goes by itself: the largest difference of a weight where one network starts from weights times 1 + 1e-7."""
    model = kf.models.mlp(data, units=case["units"])
    one, other = training.private(model, data), training.private(model, data)
    other.set_weights([values * np.float32(1 + 1e-7) for values in other.get_weights()])
    for each in (one, other):
        training.fit(each, data)
    return max(float(np.abs(a - b).max()) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def table(results):
    rows = []
    for case in CASES:
        if case not in results:
            continue
        times = results[case]["times"]
        for way, values in times.items():
            low, middle, high = common.median_interval([own / base for own, base in zip(values, times[AT_ONCE], strict=True)])
            rows.append([case, way, f"{middle:.1f}x", f"{low:.1f} to {high:.1f}", f"{np.median(values):.2f}"])
    gaps = ", ".join(f"{results[case][GAP]:.0e} ({results[case][MOVED]:.0e})" for case in CASES if case in results)
    note = f"Whole trainings of {EPOCHS} epochs, tracing included; one process, {ROUNDS} rounds that take turns; median ratio and range"
    differ = "Largest difference of a weight (in brackets: of one network to itself from a start moved by 1e-7):"
    head = ["members", "trained", "time", "range", "seconds"]
    return f"{common.markdown(head, rows)}\n\n{note}. {differ} {gaps} (`benchmarks/{NAME}.py`)."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--table"):
        parser.add_argument(flag, action="store_true")
    chosen = parser.parse_args()
    for case in ([*CASES][:1] if chosen.quick else CASES) if not chosen.table else ():
        with kf.silence():
            found = run(CASES[case], 1 if chosen.quick else ROUNDS)
        print(case, {way: round(float(np.median(values)), 2) for way, values in found["times"].items()}, flush=True)
        if not chosen.quick:
            common.save(NAME, {**common.load(NAME), case: {**json.loads(json.dumps(CASES[case])), **found}})
    if not chosen.quick:
        common.into_page(NAME, table(common.load(NAME)))


if __name__ == "__main__":
    main()
