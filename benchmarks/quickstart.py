"""The quickstart over five seeds.

A convolutional teacher, a student of 2 x 30 units, the same student without the teacher, the student pruned in an int8 file, the
teacher with half of its units, the mean of teacher, half teacher and student, and a cascade of student and teacher for the most accuracy
at a fifth of the teacher's MACs (those told are the mean over the test rows). The validation split, the models and the order of training
differ from seed to seed, the test rows do not; the settings are those of `recipes/quickstart.py`. Temperature and size of the student
were chosen on validation splits of four seeds; a convolutional teacher on all labels replaced a dense one on 300 after a single test
table of that one had been seen; the cascade got its goal after the default one, the teacher's accuracy on validation, had been seen to
ask nobody in one seed of three, where the student has that accuracy.

    python benchmarks/quickstart.py [--seeds 0 1 2 3 4]
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common

import kdfuse as kf

NAME = "quickstart"
FIGURES = ("test/accuracy", "test/macro_f1", "test/log_loss", "kd/agreement", "size/parameters", "size/nonzero", "size/keras_bytes",
           "cost/macs")  # fmt: skip
ROWS = {
    "teacher": "teacher, convolutional", "half": "teacher, half of its units removed", "student": "student 2x30, distilled",
    "control": "student 2x30, labels alone", "file": "student, 80 % zeros, int8: the LiteRT file",
    "committee": "committee: teacher, half teacher, student", "cascade": "cascade: distilled student, then teacher",
}  # fmt: skip


def run_seed(seed):
    data = kf.datasets.load("digits", seed=seed)
    build = kf.models.convnet(data, filters=(32, 64), units=64, batch_norm=True, dropout=0.3, seed=seed)
    teacher, _ = kf.Train(epochs=30, seed=seed)(build, data)
    distill = kf.Distill(
        teacher, losses=[kf.SoftTargets(4.0)], label_weight=0.1, training=kf.Train(epochs=60, seed=seed), control=True
    )  # fmt: skip
    student, report = distill(kf.models.mlp(data, units=(30, 30), seed=seed), data)
    again = kf.Distill(teacher, label_weight=0.1, training=kf.Train(epochs=30, seed=seed))
    aware = kf.QuantizeAware(training=kf.Train(epochs=3, learning_rate=1e-4, seed=seed))
    _, small = kf.Chain([kf.Prune(0.8, training=again), aware])(student, data)
    half, shrunk = kf.Shrink(keep=0.5, training=again)(teacher, data)
    _, committee = kf.Parallel()([teacher, half, student], data)
    _, cascade = kf.Cascade(target="cost", cost=0.2)([student, teacher], data)
    file = {**small.metrics, **{f"test/{name}": small.metrics[f"tflite/{name}"] for name in ("accuracy", "macro_f1", "log_loss")}}
    file["size/keras_bytes"] = file["size/tflite_bytes"]
    found = {
        **{row["model"]: row for row in report.rows()},
        "file": file, "half": shrunk.metrics, "committee": committee.metrics, "cascade": cascade.metrics,
    }  # fmt: skip
    return {model: {name: found[model][name] for name in FIGURES if name in found[model]} for model in ROWS}


def table(results):
    rows = []
    for model, text in ROWS.items():
        found = {
            name: [seed[model][name] for seed in results["seeds"].values()]
            for name in FIGURES
            if all(name in seed[model] for seed in results["seeds"].values())
        }
        shares = [common.spread([100 * value for value in found[name]]) for name in FIGURES[:2]]
        agreement = common.spread([100 * value for value in found["kd/agreement"]]) if "kd/agreement" in found else ""
        sizes = [f"{found[name][0]:,.0f}" for name in FIGURES[4:-1]]
        rows.append([text, *shares, common.spread(found["test/log_loss"], 3), agreement, *sizes, macs(found["cost/macs"])])
    header = ["digits", "accuracy %", "macro F1 %", "log loss", "agreement %", "parameters", "nonzero", "bytes", "MACs"]
    note = f"Test split, mean ± sd over {len(results['seeds'])} seeds"
    return f"{common.markdown(header, rows)}\n\n{note} (`benchmarks/quickstart.py`)."


def macs(values):
    """Those of a cascade differ from seed to seed."""
    spread = f" ± {statistics.stdev(values):,.0f}" if len(set(values)) > 1 else ""
    return f"{statistics.mean(values):,.0f}{spread}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true", help="only write the table of the documentation from the committed results")
    parser.add_argument("--quick", action="store_true", help="one seed; nothing is kept")
    chosen = parser.parse_args()
    if chosen.table:
        common.into_page(NAME, table(common.load(NAME)))
        return
    with kf.silence():
        results = {"seeds": {str(seed): run_seed(seed) for seed in (chosen.seeds[:1] if chosen.quick else chosen.seeds)}}
    print(table(results))
    if not chosen.quick:
        common.save(NAME, results)
        common.into_page(NAME, table(results))


if __name__ == "__main__":
    main()
