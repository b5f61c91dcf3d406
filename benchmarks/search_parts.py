"""What each part of a search's speed is worth, by switching it off, and what a trial costs beside its training.

Digits, 3 seeds. Each search is run with and without the part, each in a process of its own that has trained one small network before;
told are the ratio of their times and the difference of their best validation accuracies. The parts: dense networks trained as a
population (`vectorized`), compiled models that wait for trials of the same structure (`live`), trials stopped below the median
(`stop_hopeless`), a teacher's outputs computed once for all trials (`Distill(cache=...)`), and no MLflow (against a SQLite file). A trial's
costs are those of a convolutional network of one epoch: its build, what the first epoch takes longer than the others (compiling and
tracing), an epoch, measuring it.

    python benchmarks/search_parts.py [--seeds 0 1 2]
    python benchmarks/search_parts.py --quick       one seed, two candidates, two epochs; nothing is kept
    python benchmarks/search_parts.py --table       only write the table of the documentation from the committed results
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common

NAME = "search_parts"
RATES = {"training__optimizer": ["sgd", "adam", "rmsprop"], "training__learning_rate": ("log", 1e-4, 1e-1)}
PARTS = {
    "population of dense networks": {"search": "RandomSearch", "build": "mlp", "trials": 12, "epochs": 20, "off": {"vectorized": False},
                                     "space": {"build__units": ("int", 16, 256), "build__layers": [1, 2, 3], **RATES}},
    "models that wait for trials like theirs": {"search": "HalvingSearch", "build": "convnet", "trials": 18, "epochs": 9,
                                                "off": {"live": False}, "space": {**RATES, "build__filters": [8]}},
    "hopeless trials stopped": {"search": "RandomSearch", "build": "convnet", "trials": 16, "epochs": 20, "off": {"stop_hopeless": False},
                                "space": {**RATES, "build__filters": ("int", 4, 16)}},
    "teacher's outputs kept": {"search": "RandomSearch", "build": "mlp", "trials": 4, "epochs": 10, "off": {"cache": False},
                               "space": {"losses__0__temperature": ("log", 1.0, 20.0), "build__units": ("int", 16, 64)}},
    "no MLflow": {"search": "HalvingSearch", "build": "mlp", "trials": 27, "epochs": 27, "off": {"tracking": "on"},
                  "space": {"build__units": ("int", 16, 256), **RATES}},
}  # fmt: skip
COSTS = ("build", "compile and trace", "an epoch", "measure")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--table"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        part, how, seed = chosen.one
        print(json.dumps(costs(int(seed)) if part == "costs" else search(PARTS[part], how == "off", int(seed), chosen.quick)))
        return
    for seed in () if chosen.table else chosen.seeds[:1] if chosen.quick else chosen.seeds:
        found = {part: {how: apart(part, how, seed, chosen.quick) for how in ("on", "off")} for part in PARTS}
        found["costs"] = apart("costs", "on", seed, chosen.quick)
        if not chosen.quick:
            common.save(NAME, {**common.load(NAME), str(seed): found})
    if not chosen.quick:
        common.into_page(NAME, table(common.load(NAME)))


def apart(part, how, seed, quick):
    """What a process of its own measured."""
    tracking = PARTS.get(part, {}).get("off", {}).get("tracking", "off") if how == "off" else "off"
    found = common.apart(__file__, ["--one", part, how, str(seed), *(["--quick"] if quick else [])], KDFUSE_TRACKING=tracking)
    print(f"seed {seed}, {part}, {how}: {found}", flush=True)
    return found


def search(part, off, seed, quick):
    import keras

    import kdfuse as kf

    data, settings = kf.datasets.load("digits", seed=seed), {**part["off"]} if off else {}
    settings.pop("tracking", None)
    epochs, trials = (2, 2) if quick else (part["epochs"], part["trials"])
    keras.utils.set_random_seed(seed)
    training = kf.Train(epochs=epochs, seed=seed)
    if part["off"].get("cache") is False:
        teacher, _ = kf.Train(epochs=1)(kf.models.convnet(data, filters=64, layers=3), data)
        training = kf.Distill(teacher, training=training, cache=settings.pop("cache", "auto"))
    space = {name: ranged(kf, value) for name, value in part["space"].items()}
    halving = part["search"] == "HalvingSearch"
    settings |= {"n_trials": trials, "refit": False, "seed": seed, **({"max_epochs": epochs} if halving else {})}
    kf.Train(epochs=1)(kf.models.mlp(data, units=(4,)), data)
    begun = time.perf_counter()
    _, report = getattr(kf, part["search"])(training, space, **settings)(getattr(kf.models, part["build"]), data)
    best = max(row["validation/accuracy"] for row in report.tables["trials"] if "validation/accuracy" in row)
    return {"seconds": time.perf_counter() - begun, "best": best}


def ranged(kf, value):
    if not isinstance(value, tuple):
        return value
    kind, low, high = value
    return kf.Int(low, high, log=True) if kind == "int" else kf.Float(low, high, log=True)


def costs(seed):
    """Seconds of the parts of a trial that trains alone: medians over five networks of different widths."""
    import kdfuse as kf
    from kdfuse.search.goals import make_goals
    from kdfuse.search.judge import judge

    data, rows = kf.datasets.load("digits", seed=seed), []
    goals = make_goals("accuracy", None, None, data)
    for filters in (4, 6, 8, 10, 12, 14):
        times = [time.perf_counter()]
        model = kf.models.convnet(data, filters=filters, seed=seed)
        times.append(time.perf_counter())
        first = kf.Train(epochs=1).fit(kf.Train().private(model, data), data.with_splits(validation=None))
        times.append(time.perf_counter())
        student = kf.Train().private(model, data)
        kf.Train(epochs=3).fit(student, data.with_splits(validation=None))
        times.append(time.perf_counter())
        judge(student, data, goals)
        times.append(time.perf_counter())
        assert len(first.history["train/loss"]) == 1
        build, one, three, measured = (after - before for before, after in itertools.pairwise(times))
        epoch = (three - one) / 2
        rows.append([build, one - epoch, epoch, measured])
    return dict(zip(COSTS, map(statistics.median, zip(*rows[1:], strict=True)), strict=True))


def table(results):
    seeds = [results[seed] for seed in sorted(results) if seed.isdigit()]
    lines = []
    for part in PARTS:
        pairs = [(one[part]["on"], one[part]["off"]) for one in seeds]
        ratio = common.spread([off["seconds"] / on["seconds"] for on, off in pairs], 2)
        points = common.spread([100 * (off["best"] - on["best"]) for on, off in pairs], 2)
        lines.append([part, f"{statistics.mean(on['seconds'] for on, _ in pairs):.1f}", ratio, points])
    told = ", ".join(f"{cost} {1000 * statistics.mean(one['costs'][cost] for one in seeds):.0f} ms" for cost in COSTS)
    stored = statistics.mean((one["no MLflow"]["off"]["seconds"] - one["no MLflow"]["on"]["seconds"]) for one in seeds)
    told += f", its run in MLflow {1000 * stored / PARTS['no MLflow']['trials']:.0f} ms"
    header = ["part", "search with it, s", "time without it, times as long", "best validation accuracy without it, points more"]
    about = (
        f"Mean ± sd over {len(seeds)} seeds (`benchmarks/{NAME}.py`). A trial of a small convolutional network that trains alone: {told}."
    )
    return f"{common.markdown(header, lines)}\n\n{about}"


if __name__ == "__main__":
    main()
