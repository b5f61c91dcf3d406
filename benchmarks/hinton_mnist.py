"""Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 3: MNIST, errors of 10,000 test images.

A teacher of 2 x 1200 ReLU units with dropout, a max-norm constraint and images jittered by up to two pixels; students of
2 x 800 units without any regularisation, trained on the labels alone and with the teacher's soft targets at T = 20.
The last epoch is reported, over three seeds. The paper's figures: teacher 67, plain student 146, soft targets 74.

Temperature and "mostly soft targets" are the paper's. For the teacher Adam was preferred to Nesterov momentum on 10,000 validation
images held back from the training set (119 against 168 errors after 40 epochs, one seed); nothing else was tuned. The numbers of
epochs were set by the time at hand, before any test figure was seen.

    python benchmarks/hinton_mnist.py              the whole run; interrupt it and start it again as you like
    python benchmarks/hinton_mnist.py --quick      one seed, few epochs, under five minutes; nothing is kept
    python benchmarks/hinton_mnist.py --validate   the same settings, shorter, judged on 10,000 of the 60,000 training images
    python benchmarks/hinton_mnist.py --table      only write the table of the README from the committed results
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common
import keras
from keras import ops

import kdfuse as kf
from kdfuse.home import home

NAME = "hinton_mnist"
PAPER = {"teacher": 67, "plain": 146, "soft": 74}
TEACHER_EPOCHS, STUDENT_EPOCHS, TEMPERATURE, LABEL_WEIGHT = 80, 40, 20.0, 0.1


@keras.saving.register_keras_serializable("benchmarks")
class Jitter(keras.layers.Layer):
    """Shifts each image by -`pixels` to `pixels` in both directions while training; what moves in is black."""

    def __init__(self, pixels: int = 2, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.pixels, self.seed = pixels, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        if not training:
            return images
        count, height, width = ops.shape(images)[0], images.shape[1], images.shape[2]
        padded = ops.pad(images, [[0, 0], [self.pixels] * 2, [self.pixels] * 2, [0, 0]])
        shifts = keras.random.randint((2, count, 1), 0, 2 * self.pixels + 1, seed=self.seed_generator)
        rows = ops.reshape(ops.arange(height) + shifts[0], (-1, height, 1, 1))
        columns = ops.reshape(ops.arange(width) + shifts[1], (-1, 1, width, 1))
        return ops.take_along_axis(ops.take_along_axis(padded, rows, axis=1), columns, axis=2)

    def get_config(self):
        return {**super().get_config(), "pixels": self.pixels, "seed": self.seed}


def build_teacher(data, seed):
    net = kf.models.mlp(data, units=(1200, 1200), dropout=0.5, input_dropout=0.2, max_norm=3.0, seed=seed)
    inputs = keras.Input(data.input_shape)
    return keras.Model(inputs, net(Jitter(seed=seed)(inputs)), name="teacher")


def build_student(data, seed):
    return kf.models.mlp(data, units=(800, 800), seed=seed)


def trainings(seed, teacher_epochs, student_epochs):
    teacher, student = (
        kf.Train(epochs=epochs, batch_size=128, optimizer="adam", learning_rate=1e-3, decay="cosine", seed=seed)
        for epochs in (teacher_epochs, student_epochs)
    )
    return teacher, student


def errors(report, split):
    return round((1.0 - report.metrics[f"{split}/accuracy"]) * 10_000)


def run_seed(data, seed, done, keep, teacher_epochs, student_epochs, split="test"):
    """Fill `done` with the errors and seconds of this seed, calling `keep` after each part."""
    teacher_training, student_training = trainings(seed, teacher_epochs, student_epochs)
    path = home("benchmarks", f"{NAME}-{split}-teacher-{teacher_epochs}-{seed}.keras")
    if "teacher" not in done or not path.exists():
        begun = time.time()
        teacher, report = teacher_training(build_teacher(data, seed), data, name=f"teacher {seed}")
        kf.save_model(teacher, path)
        done.update(teacher=errors(report, split), teacher_seconds=round(time.time() - begun))
        keep()
    teacher = kf.load_model(path, custom_objects={"Jitter": Jitter})
    parts = {
        "plain": student_training,
        "soft": kf.Distill(teacher, losses=[kf.SoftTargets(TEMPERATURE)], label_weight=LABEL_WEIGHT, training=student_training),
    }
    for part, technique in parts.items():
        if part not in done:
            begun = time.time()
            _, report = technique(build_student(data, seed), data, name=f"{part} {seed}")
            done.update({part: errors(report, split), f"{part}_seconds": round(time.time() - begun)})
            keep()
    print(f"seed {seed}: " + ", ".join(f"{part} {done[part]}" for part in PAPER), flush=True)


def table(results):
    seeds = results["seeds"]
    rows = []
    for part, text in (
        ("teacher", "teacher 2x1200, dropout, jitter"),
        ("plain", "student 2x800, labels alone"),
        ("soft", "student 2x800, soft targets T = 20"),
    ):
        found = [seed[part] for seed in seeds.values()]
        rows.append([text, common.spread(found), ", ".join(map(str, found)), PAPER[part]])
    hours = sum(value for seed in seeds.values() for name, value in seed.items() if name.endswith("_seconds")) / 3600
    epochs = "teacher {teacher_epochs} epochs, students {student_epochs}".format(**results["settings"])
    note = f"Test errors of 10,000 at the last epoch ({epochs}), {len(seeds)} seeds; {hours:.1f} hours on 2 shared CPU cores"
    return f"{common.markdown(['MNIST', 'errors (mean ± sd)', 'each seed', 'the paper'], rows)}\n\n{note} (`benchmarks/hinton_mnist.py`)."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen = parser.parse_args()
    if chosen.table:
        common.into_readme(NAME, table(common.load(NAME)))
        return
    with kf.silence():
        if chosen.quick:
            data = kf.datasets.load("mnist", validation=None)
            run_seed(data, 0, {}, lambda: None, 8, 8)
        elif chosen.validate:
            data = kf.datasets.load("mnist", validation=1 / 6).with_splits(test=None)
            run_seed(data, 0, {}, lambda: None, 40, 30, split="validation")
        else:
            results = common.load(NAME) or {"seeds": {}}
            results["settings"] = {"teacher_epochs": TEACHER_EPOCHS, "student_epochs": STUDENT_EPOCHS, "label_weight": LABEL_WEIGHT}
            data = kf.datasets.load("mnist", validation=None)
            for seed in chosen.seeds:
                run_seed(
                    data,
                    seed,
                    results["seeds"].setdefault(str(seed), {}),
                    lambda: common.save(NAME, results),
                    TEACHER_EPOCHS,
                    STUDENT_EPOCHS,
                )
            common.into_readme(NAME, table(results))
            print(table(results))


if __name__ == "__main__":
    main()
