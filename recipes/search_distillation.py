"""Search how to distil: temperature, weight of the labels, losses and learning rate of a small student on few labels. MNIST.

The teacher is asked once for all trials. Optuna proposes settings near those that did well; trials that fall behind stop early. Prints
the trials and the winner beside the teacher and the same student without one, and logs every trial to MLflow; `kdfuse ui` shows
them. A killed search goes on where it stopped. Takes about two minutes on two CPU cores.
"""

import argparse

import kdfuse as kf

SPACE = {
    "losses__0__temperature": kf.Float(1, 12, log=True),
    "label_weight": kf.Float(0, 0.9),
    "training__learning_rate": kf.Float(3e-4, 3e-2, log=True),
    "training__decay": ["constant", "cosine"],
}
COLUMNS = ("model", "status", *SPACE, "validation/accuracy", "validation/log_loss", "epochs")


def main(quick: bool = False, fresh: bool = False) -> None:
    print(kf.runtime.describe())
    data = kf.datasets.load("digits") if quick else kf.datasets.load("mnist", labels=2_000)
    epochs = 1 if quick else 12

    with kf.track("search distillation", run=f"{data.name}: how to teach 16 filters", resume=not fresh):
        build = kf.models.convnet(data, filters=(16, 32), units=64, batch_norm=True, dropout=0.3)
        teacher, _ = kf.Train(epochs=2 * epochs, decay="cosine")(build, data, name="teacher")
        distill = kf.Distill(teacher, training=kf.Train(epochs=epochs), control=True)
        search = kf.BayesSearch(distill, SPACE, n_trials=2 if quick else 16, maximize="accuracy", refit=True)
        student, report = search(kf.models.convnet(data, filters=(4, 8), units=()), data)

    print()
    print(kf.format_table(report.tables["trials"], COLUMNS))
    print()
    print(report)
    kf.save_model(student, "student.keras")
    print("\nThe student is in student.keras. See the trials with: python3 kd.py run kdfuse ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits and two trials: to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="begin anew where an earlier call was interrupted")
    given = parser.parse_args()
    main(given.quick, given.fresh)
