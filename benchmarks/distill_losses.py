"""Every distillation loss on a convolutional teacher and student, on MNIST and on spoken digits; and what a step costs.

The student of MNIST sees 2,000 labelled images, its teacher saw 50,000 (5,000 more are for validation); that of the spoken digits sees
500 recordings of the 2,430 that its teacher saw. Against the same student without a teacher, with the same settings of the training,
which were set for that one. Each loss has its paper's usual weights, times 0.01, 0.1, 1 or 10 for the weight of the loss, chosen by
validation accuracy (then log loss) with seed 0. Test is read once for each seed, at the last epoch, after that choice. Where a loss
reads layers, these are the three stages, one of them, or what goes into the head, as its paper has it.

    python benchmarks/distill_losses.py                 quality; interrupt it and start it again as you like
    python benchmarks/distill_losses.py --cost          the cost of a step over student.fit, teacher live and cached
    python benchmarks/distill_losses.py --quick         two losses, few epochs; nothing is kept
    python benchmarks/distill_losses.py --table         only write the table of the documentation from the committed results
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import keras
import numpy as np

import kdfuse as kf
from kdfuse.data import Data
from kdfuse.distill.cache import targets
from kdfuse.distill.distiller import Distiller
from kdfuse.distill.lessons import TaughtSplit
from kdfuse.distill.teachers import Teacher
from kdfuse.distill.terms import layers_of, needs_rows
from kdfuse.graph.copy import copy_model
from kdfuse.home import home

NAME = "distill_losses"
STAGES = ("conv_1", "pool_2", "pool_3")
EVERY, LAST = {"teacher_layer_name": STAGES, "student_layer_name": STAGES}, {"teacher_layer_name": "pool_3", "student_layer_name": "pool_3"}
SLIM = {"strides": (2, 1, 1), "pool_size": (1, 2, 2), "batch_norm": True, "units": ()}
POOLING = {"spoken_digits": "flatten"}
FACTORS, SEEDS = (0.01, 0.1, 1.0, 10.0), (0, 1, 2)
RECIPES = {  # the loss, the weight of the labels and of the loss that are usual with it
    "SoftTargets": (kf.SoftTargets(4.0), 0.1, 0.9),
    "LogitsMSE": (kf.LogitsMSE(), 0.1, 0.9),
    "HardLabels": (kf.HardLabels(), 0.5, 0.5),
    "LogitStandardization": (kf.LogitStandardization(2.0), 0.1, 9.0),
    "DKD": (kf.DKD(4.0), 1.0, 1.0),
    "DIST": (kf.DIST(4.0), 1.0, 2.0),
    "Hints": (kf.Hints("pool_2", "pool_2"), 1.0, 100.0),
    "AttentionTransfer": (kf.AttentionTransfer(**EVERY), 1.0, 1000.0),
    "SimilarityPreserving": (kf.SimilarityPreserving(**LAST), 1.0, 3000.0),
    "RKD": (kf.RKD(), 1.0, 1.0),
    "PKT": (kf.PKT(), 1.0, 30000.0),
    "VID": (kf.VID(**EVERY), 1.0, 1.0),
    "NST": (kf.NST(**LAST), 1.0, 50.0),
    "CRD": (kf.CRD(), 1.0, 0.8),
    "ReviewKD": (kf.ReviewKD(**EVERY), 1.0, 0.7),
}
SETS = ("mnist", "spoken_digits")
PLAIN = "labels alone"


def load(name):
    """The teacher's data and the student's."""
    if name == "spoken_digits":
        whole = kf.datasets.load(name)
        few = np.random.default_rng(0).permutation(len(whole.train))[:500]
        return whole, whole.with_splits(train=whole.train.take(few))
    whole = kf.datasets.load(name, validation=1 / 6)
    few = np.random.default_rng(0).permutation(len(whole.train))[:2000]
    checked = whole.validation.take(np.arange(5000))
    few_data = Data(
        train=whole.train.take(few), validation=checked, test=whole.test, name="mnist, 2,000 labels", class_names=whole.class_names
    )
    return whole.with_splits(validation=checked), few_data


def big(data, seed):
    return kf.models.convnet(data, filters=(16, 32, 32), global_pooling=POOLING.get(data.name, "average"), **SLIM, seed=seed)


def little(data, seed):
    return kf.models.convnet(data, filters=(4, 8, 8), global_pooling=POOLING.get(data.name, "average"), **SLIM, seed=seed)


def training(name, epochs, seed):
    return kf.Train(epochs=epochs, batch_size=64, learning_rate=3e-3, decay="cosine", seed=seed, checkpoint=0)


def teacher_of(name, data, seed, epochs):
    path = home("benchmarks", f"{NAME}-{name}-{epochs}-{seed}.keras")
    if not path.exists():
        made, report = training(name, epochs, seed)(big(data, seed), data.with_splits(test=None))
        print(f"{name}: teacher {seed}: {report.metrics['validation/accuracy']:.4f} on validation in {report.seconds:.0f} s", flush=True)
        kf.save_model(made, path)
    return kf.load_model(path)


def technique(name, teacher, recipe, factor, epochs, seed):
    if recipe == PLAIN:
        return training(name, epochs, seed)
    loss, label_weight, weight = RECIPES[recipe]
    given = training(name, epochs, seed)
    return kf.Distill(teacher, losses=[loss], training=given, label_weight=label_weight, loss_weights=(weight * factor,))


def run_set(name, results, keep, quick=False):
    teacher_data, data = load(name)
    teacher_epochs, epochs = (1, 2) if quick else (4, 40) if name == "mnist" else (20, 60)
    recipes = [PLAIN, "SoftTargets", "Hints"] if quick else [PLAIN, *RECIPES]
    teachers = {seed: teacher_of(name, teacher_data, seed, teacher_epochs) for seed in (SEEDS[:1] if quick else SEEDS)}
    unseen = data.with_splits(validation=None, test=None)
    own = results.setdefault(name, {"chosen": {}, "tried": {}, "test": {}, "teacher": {}})
    for seed, teacher in teachers.items():
        if str(seed) not in own["teacher"]:
            own["teacher"][str(seed)] = kf.evaluate(teacher, data).metrics["test/accuracy"]
            keep()
    for recipe in recipes:
        tried = own["tried"].setdefault(recipe, {})
        for factor in FACTORS if recipe != PLAIN else ():
            if str(factor) not in tried:
                made = technique(name, teachers[0], recipe, factor, epochs, 0)
                student, _ = made(little(data, 0), unseen)
                found = kf.evaluate(student, data.with_splits(test=None)).metrics
                tried[str(factor)] = [found["validation/accuracy"], found["validation/log_loss"]]
                keep()
        if tried:
            best = float(max(tried, key=lambda factor: (tried[factor][0], -tried[factor][1])))
            if own["chosen"].get(recipe) not in (None, best):
                own["test"].pop(recipe, None)
            own["chosen"][recipe] = best
        for seed, teacher in teachers.items():
            done = own["test"].setdefault(recipe, {})
            if str(seed) not in done:
                begun = time.time()
                made = technique(name, teacher, recipe, own["chosen"].get(recipe), epochs, seed)
                _, report = made(little(data, seed), data.with_splits(validation=None))
                done[str(seed)] = report.metrics["test/accuracy"]
                own["seconds"] = own.get("seconds", 0) + time.time() - begun
                keep()
        print(f"{name}: {recipe}: {common.spread([100 * value for value in own['test'][recipe].values()], 2)}", flush=True)


class Clock(keras.callbacks.Callback):
    """Seconds from the first step of the epoch to its end."""

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.begun


def cost(rounds, steps, together=16, batch=64):
    """Seconds a step of each loss, live and cached, and of plain `fit`, all with as many steps per execution."""
    random = np.random.default_rng(0)
    rows = steps * batch
    names = [str(i) for i in range(10)]
    data = Data(train=(random.random((rows, 28, 28, 1), dtype="float32"), random.integers(0, 10, rows)), class_names=names)
    teacher, student, example = big(data, 0), little(data, 0), data.example(2)

    def runner(model, split):
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), steps_per_execution=together)

        def run(epoch):
            clock = Clock()
            source = split.dataset(batch, seed=0, start=epoch, epochs=epoch + 1)
            model.fit(source, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[clock])
            return clock.seconds / steps

        return run

    runs = {PLAIN: runner(copy_model(student), data.train)}
    for recipe, (loss, _, _) in RECIPES.items():
        one = Teacher(teacher, "logits", layers_of([loss])[0], example)
        lesson, numbered = targets(one, data.train).lesson, needs_rows([loss])
        live = Distiller(copy_model(student), [loss], teacher=one, example=example, rows=rows)
        cached = Distiller(copy_model(student), [loss], lessons=[lesson], example=example, rows=rows)
        runs[f"{recipe}, live"] = runner(live, TaughtSplit(data.train, None, numbered=numbered))
        runs[f"{recipe}, cached"] = runner(cached, TaughtSplit(data.train, (lesson,), numbered=numbered))
    seconds = {name: [] for name in runs}
    order = list(runs)
    for place in range(rounds + 1):
        for name in order[place % len(order) :] + order[: place % len(order)]:
            took = runs[name](place)
            if place:  # the first round traces
                seconds[name].append(took)
        print(f"cost: round {place} of {rounds}", file=sys.stderr, flush=True)
    return seconds


def table(results):
    def accuracy(name, recipe):
        found = results.get(name, {}).get("test", {}).get(recipe, {})
        return common.spread([100 * value for value in found.values()], 2) if len(found) == len(SEEDS) else "-"

    def step(recipe, how):
        seconds = results.get("cost", {})
        key = PLAIN if recipe == PLAIN else f"{recipe}, {how}"
        if key not in seconds:
            return "-"
        return f"{common.median_interval([own / plain for own, plain in zip(seconds[key], seconds[PLAIN], strict=True)])[1]:.2f}x"

    def weight(recipe):
        if recipe == PLAIN:
            return "1 / 0"
        _, label, usual = RECIPES[recipe]
        chosen = [results.get(name, {}).get("chosen", {}).get(recipe) for name in SETS]
        return f"{label:g} / " + ", ".join("-" if factor is None else f"{usual * factor:g}" for factor in chosen)

    def mean(recipe):
        found = results.get("mnist", {}).get("test", {}).get(recipe, {})
        return -sum(found.values()) / len(found) if found else 0.0

    teachers = ["teacher", "", *(common.spread([100 * value for value in results.get(name, {}).get("teacher", {}).values()], 2)
                                 if results.get(name, {}).get("teacher") else "-" for name in SETS), "", ""]  # fmt: skip
    rows = [
        [recipe, weight(recipe), *(accuracy(name, recipe) for name in SETS), step(recipe, "live"), step(recipe, "cached")]
        for recipe in sorted([PLAIN, *RECIPES], key=mean)
    ]
    header = ["loss", "weights: labels / loss", "MNIST, 2,000 labels %", "spoken digits, 500 labels %", "step, live", "step, cached"]
    note = (
        f"Test accuracy, mean ± sd over {len(SEEDS)} seeds, sorted by MNIST; weights chosen on validation, for each set its own; "
        "cost over plain `student.fit` with the same steps per execution; - where it was not run yet"
    )
    return f"{common.markdown(header, [teachers, *rows])}\n\n{note} (`benchmarks/distill_losses.py`)."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--cost", "--table"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    results = {} if chosen.quick else {name: value for name, value in common.load(NAME).items() if name != "versions"}

    def keep():
        if not chosen.quick:  # another process may fill other parts at the same time
            latest = {name: value for name, value in common.load(NAME).items() if name != "versions"}
            mine = {name: value for name, value in results.items() if name in (chosen.sets if not chosen.cost else ("cost",))}
            common.save(NAME, {**latest, **mine})

    with kf.silence():
        if chosen.cost:
            results["cost"] = cost(chosen.rounds, 32)
            keep()
        elif not chosen.table:
            for name in chosen.sets:
                run_set(name, results, keep, chosen.quick)
    results = results if chosen.quick else common.load(NAME)
    print(table(results))
    if not chosen.quick:
        common.into_page(NAME, table(results))


if __name__ == "__main__":
    main()
