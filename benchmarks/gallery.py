"""The gallery of the recipes: each section of `docs/gallery.md` gets the tables that its recipe prints and plots that it logs to MLflow.

    python benchmarks/gallery.py                  runs every recipe, one after another
    python benchmarks/gallery.py text speech      runs these, and leaves the other sections as they are
    python benchmarks/gallery.py --table          writes the page anew from `benchmarks/results/gallery.json`, without running

Each recipe runs as a user runs it: in a process of its own, with its own settings, on the real data, in an empty folder, into a store
that is thrown away. What is told is that one run with one seed; means over seeds are in `docs/results.md`. The plots are those of the
store, made at most 900 pixels wide and of 128 colours. The text by hand of the page stays.
"""

import argparse
import io
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import common

from kdfuse.home import write_atomic

NAME = "gallery"
IMAGES = common.ROOT / "docs" / "images" / "gallery"
WIDEST, COLOURS = 900, 128
PLOTS = {  # recipe: (the run in MLflow, its plot)
    "quickstart": [("cascade: student, then teacher", "thresholds"), ("student", "learning_curves")],
    "text": [("student", "learning_curves"), ("student", "confusion_test")],
    "speech": [("student", "learning_curves"), ("student", "confusion_test")],
    "prune_quantize": [("1. Prune", "learning_curves")],
    "shrink_convnet": [("small", "learning_curves")],
    "committee": [("weights fitted on validation", "weights"), ("mean", "reliability")],
    "cascade": [("cascade", "thresholds"), ("cascade", "reliability")],
    "committee_to_student": [("committee", "reliability"), ("student", "learning_curves")],
    "search_structure": [("HalvingSearch", "front")],
    "search_distillation": [("BayesSearch", "parallel_coordinates")],
}
LEFT_OUT = {"quickstart": 1}  # how many tables at the beginning: the second has the rows of the first
QUICK = {"quickstart": ("--epochs", "2"), "prune_quantize": ("--epochs", "2")}  # of the others: --quick
OWN = ("KDFUSE_TRACKING", "KDFUSE_EXPERIMENT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")


def run_recipe(recipe, quick):
    """Run a recipe: what it printed, how long it took, and the plots as PNG by the name of the file."""
    with tempfile.TemporaryDirectory(prefix="kdfuse-gallery-") as folder:
        home = Path(folder) / "home"
        environment = {name: value for name, value in os.environ.items() if name not in OWN}
        environment |= {"KDFUSE_HOME": str(home), "PYTHONPATH": str(common.ROOT)}
        command = [sys.executable, str(common.ROOT / "recipes" / f"{recipe}.py"), *(QUICK.get(recipe, ("--quick",)) if quick else ())]
        begun = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        seconds = time.monotonic() - begun
        if done.returncode:
            raise SystemExit(f"recipes/{recipe}.py failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        found = {
            plot: logged(home, run, plot) for run, plot in PLOTS[recipe] if not quick or plot != "learning_curves"
        }  # of one epoch: none
        pictures = {f"{recipe}-{plot}.png": small(picture) for plot, picture in found.items()}
    told = {
        "machine": done.stdout.splitlines()[0],
        "seconds": round(seconds, 1),
        "tables": tables(done.stdout)[LEFT_OUT.get(recipe, 0) :],
        "plots": [{"file": f"{recipe}-{plot}.png", "run": run, "plot": plot} for run, plot in PLOTS[recipe]],
    }
    return told, pictures


def tables(text):
    """The tables in what a recipe printed, each as a list of rows, its titles first: `kf.format_table` underlines them."""
    lines, found = text.splitlines(), []
    for place, line in enumerate(lines[1:], start=1):
        if re.fullmatch(r"-+(  -+)*", line):
            columns = [match.span() for match in re.finditer("-+", line)]
            between = [(one[1], other[0]) for one, other in itertools.pairwise(columns)]
            rows = [lines[place - 1]]
            for row in lines[place + 1 :]:
                if not row.strip() or len(row) > columns[-1][1] or any(row[start:end].strip() for start, end in between):
                    break
                rows.append(row)
            found.append([[row[start:end].strip() for start, end in columns] for row in rows])
    return found


def logged(home, run, plot):
    """The bytes of a plot of the only run of this name in the store."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    runs = [one for experiment in client.search_experiments() for one in client.search_runs([experiment.experiment_id])]
    named = [one for one in runs if one.info.run_name == run]
    if len(named) != 1:
        raise SystemExit(f"Expected one run {run!r}. The store has: {', '.join(sorted(one.info.run_name for one in runs))}.")
    return Path(client.download_artifacts(named[0].info.run_id, f"plots/{plot}.png")).read_bytes()


def small(picture):
    """A PNG as one of few bytes: at most 900 pixels wide, 128 colours."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    kept = io.BytesIO()
    image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return kept.getvalue()


def section(found):
    """What a run gave, in Markdown."""
    parts = []
    for titles, *rows in found["tables"]:
        parts.append(common.markdown([cell(title) for title in titles], [[cell(text) for text in row] for row in rows]))
    for one in found["plots"]:
        parts.append(f"![{one['run']}: {one['plot'].replace('_', ' ')}](images/gallery/{one['file']})")
    return "\n\n".join([*parts, f"{found['seconds']:.0f} s. {found['machine']}."])


def cell(text):
    """The name of a setting as code, whose underscores Markdown leaves alone."""
    return f"`{text}`" if "__" in text else text.replace("|", "\\|").replace("*", "\\*")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="recipe", help=f"one or more of {', '.join(PLOTS)}; by default all")
    parser.add_argument("--table", action="store_true", help="only write the page, from the committed results")
    parser.add_argument("--quick", action="store_true", help="the recipes made small; nothing is kept")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.recipes) - set(PLOTS))
    if unknown:
        parser.error(f"there is no recipe {unknown[0]!r} in the gallery. It has: {', '.join(PLOTS)}.")
    for recipe in () if chosen.table else chosen.recipes or PLOTS:
        found, pictures = run_recipe(recipe, chosen.quick)
        if chosen.quick:
            print(section(found))
            continue
        for old in IMAGES.glob(f"{recipe}-*.png"):
            old.unlink()
        for name, picture in pictures.items():
            write_atomic(IMAGES / name, picture)
        common.save(NAME, {**common.load(NAME), recipe: found})
        print(f"{recipe}: {found['seconds']:.0f} s", flush=True)
    if not chosen.quick:
        for recipe in PLOTS:
            if recipe in common.load(NAME):
                common.into_page(f"{NAME}/{recipe}", section(common.load(NAME)[recipe]))


if __name__ == "__main__":
    main()
