"""Time until a search has the best validation accuracy that other libraries reach with their whole budget.

One space for all, 12 candidates for those that draw them, the same training and validation rows, one process of its own for each
search, one after another. Peers: scikit-learn's RandomizedSearchCV over `keras.wrappers.SKLearnClassifier` (epochs are given to `fit`,
for its clones lose those of the constructor; its score is that of the last epoch), KerasTuner's RandomSearch and Hyperband (their score is
the best epoch's, and kdfuse keeps the best epoch too). kdfuse draws four times as many dense candidates (three times as many by halving)
and twice as many convolutional ones; told is the time at which its best score so far reached each peer's, over the peer's whole time, and
how often it never did. Importing the libraries counts for nobody.

    pip install keras-tuner==1.4.7 tensorboard
    python benchmarks/search_speed.py [--seeds 0 1 2] [--data "MLPs, digits" "CNNs, MNIST with 2,000 labels"]
    python benchmarks/search_speed.py --quick       one seed, two candidates, two epochs; nothing is kept
    python benchmarks/search_speed.py --table       only write the table of the documentation from the committed results
"""

import argparse
import importlib
import json
import math
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common

NAME, TRIALS = "search_speed", 12
SETS = {
    "MLPs, digits": {"load": ["digits", {}], "epochs": 20, "builder": "mlp", "more": {"random": 4, "halving": 3},
                     "ints": {"units": [16, 256], "layers": [1, 3]},
                     "choices": {"activation": ["relu", "tanh", "sigmoid", "gelu", "leaky_relu"]}},
    "CNNs, MNIST with 2,000 labels": {"load": ["mnist", {"labels": 2_000}], "epochs": 8, "builder": "convnet",
                                      "more": {"random": 2, "halving": 2},
                                      "ints": {"filters": [8, 32], "layers": [1, 2], "units": [16, 64]},
                                      "choices": {"kernel_size": [3, 5], "pooling": ["max", "average"]}},
}  # fmt: skip
LEAST = 3
"""Seeds without which a set is not told."""
PEERS = ("scikit-learn RandomizedSearchCV", "KerasTuner RandomSearch", "KerasTuner Hyperband")
OURS = ("kdfuse RandomSearch", "kdfuse HalvingSearch")
MODULES = {PEERS[0]: ("keras.wrappers", "sklearn.model_selection"), **dict.fromkeys(PEERS[1:], ("keras_tuner",)),
           OURS[0]: ("kdfuse.search.random",), OURS[1]: ("kdfuse.search.halving",)}  # fmt: skip
OPTIMIZERS, RATE, DROPOUT, BATCH = ["sgd", "adam", "rmsprop"], (1e-4, 1e-1), (0.0, 0.5), 32


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--table"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(search(*chosen.one[:2], int(chosen.one[2]), chosen.quick)))
        return
    for name in chosen.data if not chosen.table else ():
        for seed in chosen.seeds[:1] if chosen.quick else chosen.seeds:
            settings = json.loads(json.dumps(SETS[name]))
            done = {} if chosen.quick else common.load(NAME).get(name, {}).get(str(seed), {})
            if done.get("settings") == settings:
                continue
            done = {"settings": settings, "found": {who: apart(who, name, seed, chosen.quick) for who in (*PEERS, *OURS)}}
            if not chosen.quick:
                results = common.load(NAME)
                common.save(NAME, {**results, name: {**results.get(name, {}), str(seed): done}})
    if not chosen.quick:
        common.into_page(NAME, table(common.load(NAME)))


def apart(who, name, seed, quick):
    """A search in a process of its own: `{"curve": [[seconds, best score so far], ...], "seconds": whole}`."""
    found = common.apart(__file__, ["--one", who, name, str(seed), *(["--quick"] if quick else [])])
    print(f"{name}, seed {seed}, {who}: {found['curve'][-1][1]:.4f} in {found['seconds']:.1f} s", flush=True)
    return found


def search(who, name, seed, quick):
    import keras

    import kdfuse as kf

    case = SETS[name]
    data = kf.datasets.load(case["load"][0], seed=seed, **case["load"][1])
    epochs, trials = (2, 2) if quick else (case["epochs"], TRIALS)
    builder = getattr(kf.models, case["builder"])
    keras.utils.set_random_seed(seed)
    run = {PEERS[0]: sklearn_random, PEERS[1]: tuner_random, PEERS[2]: tuner_hyperband, OURS[0]: ours_random, OURS[1]: ours_halving}[who]
    data.train.head(1)
    for module in MODULES[who]:
        importlib.import_module(module)
    begun = time.perf_counter()
    curve = run(case, builder, data, epochs, trials, seed, begun)
    return {"curve": best_so_far(curve), "seconds": time.perf_counter() - begun}


def best_so_far(scores):
    found, best = [], float("-inf")
    for seconds, score in sorted(scores):
        best = max(best, score)
        found.append([seconds, best])
    return found


def compiled(builder, data, settings, optimizer, rate, seed):
    import keras

    model = builder(data, seed=seed, **settings)
    made = keras.optimizers.get(optimizer)
    made.learning_rate = rate
    model.compile(made, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def sklearn_random(case, builder, data, epochs, trials, seed, begun):
    import keras
    import numpy as np
    from keras.wrappers import SKLearnClassifier
    from sklearn.model_selection import PredefinedSplit, RandomizedSearchCV

    from kdfuse.search.space import Space, seeded

    shape = data.train.x.shape[1:]

    def model(X, y, optimizer, learning_rate, **settings):  # it takes rows of numbers, and makes its labels one-hot
        made = compiled(builder, data, settings, optimizer, learning_rate, seed)
        flat = keras.Sequential([keras.Input((math.prod(shape),)), keras.layers.Reshape(shape), made])
        flat.compile(made.optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        return flat

    draws = [Space(our_space(case)).draw(seeded(seed, place)) for place in range(trials)]
    kwargs = [{name.partition("__")[2]: value for name, value in row.items()} for row in draws]
    x, y = (np.concatenate([getattr(split, part) for split in (data.train, data.validation)]) for part in ("x", "y"))
    fold = PredefinedSplit(np.r_[np.full(len(data.train.y), -1), np.zeros(len(data.validation.y), int)])
    space = {"model_kwargs": kwargs}
    found = RandomizedSearchCV(SKLearnClassifier(model), space, n_iter=trials, cv=fold, refit=False, random_state=seed, scoring="accuracy")
    found.fit(x.reshape(len(x), -1), y, epochs=epochs, batch_size=BATCH, verbose=0)
    return [[time.perf_counter() - begun, float(found.best_score_)]]


def tuner_model(case, builder, data, seed):
    def build(hp):
        settings = {name: hp.Int(name, low, high, sampling="log" if low > 4 else "linear") for name, (low, high) in case["ints"].items()}
        settings |= {name: hp.Choice(name, values) for name, values in case["choices"].items()}
        settings["dropout"] = hp.Float("dropout", *DROPOUT)
        return compiled(builder, data, settings, hp.Choice("optimizer", OPTIMIZERS), hp.Float("rate", *RATE, sampling="log"), seed)

    return build


def tuned(tuner, data, epochs, begun):
    rows, ended = [], tuner.on_trial_end

    def told(trial):
        ended(trial)
        rows.append([time.perf_counter() - begun, float(tuner.oracle.get_trial(trial.trial_id).score)])

    tuner.on_trial_end = told
    tuner.search(
        data.train.x, data.train.y, epochs=epochs, batch_size=BATCH, validation_data=(data.validation.x, data.validation.y), verbose=0
    )
    return rows


def tuner_random(case, builder, data, epochs, trials, seed, begun):
    import keras_tuner as kt

    tuner = kt.RandomSearch(tuner_model(case, builder, data, seed), "val_accuracy", max_trials=trials, seed=seed, directory="kt")
    return tuned(tuner, data, epochs, begun)


def tuner_hyperband(case, builder, data, epochs, trials, seed, begun):
    import keras_tuner as kt

    tuner = kt.Hyperband(tuner_model(case, builder, data, seed), "val_accuracy", max_epochs=epochs, factor=3, seed=seed, directory="kt")
    return tuned(tuner, data, epochs, begun)


def our_space(case):
    import kdfuse as kf

    space = {f"build__{name}": kf.Int(low, high, log=low > 4) for name, (low, high) in case["ints"].items()}
    space |= {f"build__{name}": values for name, values in case["choices"].items()}
    return {
        **space,
        "build__dropout": kf.Float(*DROPOUT),
        "training__optimizer": OPTIMIZERS,
        "training__learning_rate": kf.Float(*RATE, log=True),
    }


def ours(search, builder, data):
    _, report = search(builder, data)
    return [[row["ended"], row["validation/accuracy"]] for row in report.tables["trials"] if "validation/accuracy" in row]


def ours_random(case, builder, data, epochs, trials, seed, begun):
    import kdfuse as kf

    training = kf.Train(epochs=epochs, batch_size=BATCH, stopping=keeping_best(epochs))
    return ours(kf.RandomSearch(training, our_space(case), n_trials=case["more"]["random"] * trials, seed=seed), builder, data)


def ours_halving(case, builder, data, epochs, trials, seed, begun):
    import kdfuse as kf

    training, count = kf.Train(batch_size=BATCH, stopping=keeping_best(epochs)), case["more"]["halving"] * trials
    return ours(kf.HalvingSearch(training, our_space(case), max_epochs=epochs, n_trials=count, refit=False, seed=seed), builder, data)


def keeping_best(epochs):
    """The weights of the best epoch, as the tuners' scores are those of the best epoch."""
    import kdfuse as kf

    return kf.Stopping(monitor="validation/accuracy", patience=epochs)


def reached(curve, score):
    return next((seconds for seconds, best in curve if best >= score - 1e-6), None)  # the peers' accuracies are rounded to float32


def table(results):
    lines = []
    for name, seeds in results.items():
        if name not in SETS or len(seeds) < LEAST:
            continue
        found = [seed["found"] for seed in seeds.values()]
        for who in (*PEERS, *OURS):
            score = common.spread([100 * one[who]["curve"][-1][1] for one in found], 2)
            seconds = statistics.mean(one[who]["seconds"] for one in found)
            cells = []
            for peer in PEERS if who in OURS else ():
                shares = [(reached(one[who]["curve"], one[peer]["curve"][-1][1]), one[peer]["seconds"]) for one in found]
                missed = sum(mine is None for mine, _ in shares)
                ratios = [mine / theirs for mine, theirs in shares if mine is not None]
                cells.append(
                    (f"{statistics.mean(ratios):.3f}" if ratios else "") + (f" (never in {missed} of {len(shares)})" if missed else "")
                )
            lines.append([name, who, score, f"{seconds:.1f}", *(cells or [""] * len(PEERS))])
    header = [
        "search",
        "by",
        "best validation accuracy %",
        "whole time, s",
        *(f"time to the best of {peer}, over its whole time" for peer in PEERS),
    ]
    count = max((len(seeds) for name, seeds in results.items() if name in SETS), default=0)
    return (
        f"{common.markdown(header, lines)}\n\nMean over {count} seeds, each search cold in a process of its own (`benchmarks/{NAME}.py`)."
    )


if __name__ == "__main__":
    main()
