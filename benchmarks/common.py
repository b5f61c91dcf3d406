"""What the benchmarks share: per-seed results as JSON, their mean and spread, and the tables of the documentation."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdfuse.home import write_atomic

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "gallery.md")


def load(name: str) -> dict[str, Any]:
    """The committed results of a benchmark, empty where there are none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(name: str, results: dict[str, Any]) -> None:
    """Write the results of a benchmark in one step, with the versions they were measured with."""
    import keras
    import tensorflow as tf

    results = {**results, "versions": {"python": platform.python_version(), "keras": keras.__version__, "tensorflow": tf.__version__}}
    write_atomic(RESULTS / f"{name}.json", (json.dumps(results, indent=1, sort_keys=True) + "\n").encode())


def apart(script: str, arguments: Sequence[str], **environment: str) -> Any:
    """What a script prints as its last line, in JSON, when it runs in a process and a folder of its own, with nothing tracked."""
    with tempfile.TemporaryDirectory() as folder:
        own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        own |= {"KDFUSE_HOME": folder, "KDFUSE_TRACKING": "off", "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
        command = [sys.executable, str(Path(script).resolve()), *arguments]
        done = subprocess.run(command, cwd=folder, env=own, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and sample standard deviation: `74.3 ± 2.1`."""
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.{digits}f}" + (f" ± {deviation:.{digits}f}" if len(values) > 1 else "")


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and a 95 % interval for it, from order statistics (binomial, no assumption on the distribution)."""
    ordered, n = sorted(values), len(values)
    reach = int(1.96 * n**0.5 / 2 + 0.5)
    low, high = max(0, n // 2 - reach), min(n - 1, n // 2 + reach)
    return ordered[low], statistics.median(ordered), ordered[high]


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def over_seeds(
    name: str, about: str, sets: dict[str, Any], run: Callable[[Any, int, bool], Any], table: Callable[[dict[str, Any]], str]
) -> None:
    """The command line of a benchmark of several data sets and seeds: each pair is run once and kept, until its settings change.

    Args:
        name: of the benchmark.
        about: its docstring.
        sets: settings by the name of a data set.
        run: gives what was found for settings and a seed; the third argument says that it is only to be seen to run.
        table: of the kept results.
    """
    import kdfuse as kf

    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--table"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", default=list(sets), choices=list(sets))
    chosen = parser.parse_args()
    for one in chosen.data if not chosen.table else ():
        for seed in chosen.seeds[:1] if chosen.quick else chosen.seeds:
            settings = json.loads(json.dumps(sets[one]))
            done = {} if chosen.quick else load(name).get(one, {}).get(str(seed), {})
            if done.get("settings") != settings:
                with kf.silence():
                    done = {"settings": settings, "found": run(sets[one], seed, chosen.quick)}
                if not chosen.quick:
                    results = load(name)
                    save(name, {**results, one: {**results.get(one, {}), str(seed): done}})
            print(f"{one}, seed {seed}: {json.dumps(done['found'])}", flush=True)
    if not chosen.quick:
        into_page(name, table(load(name)))


def into_page(name: str, table: str) -> None:
    """Put a table between `<!-- table: name -->` and `<!-- /table -->` of the README, the page of results or the gallery."""
    pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- /table -->)", re.DOTALL)
    for page in PAGES:
        text = page.read_text()
        if pattern.search(text):
            write_atomic(page, pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text).encode())
            return
    raise SystemExit(f"None of {', '.join(page.name for page in PAGES)} has a place for the table {name!r}.")
