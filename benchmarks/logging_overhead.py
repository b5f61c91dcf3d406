"""What tracking costs: twenty one-second epochs with and without it, and how long the end of a run takes.

Whole processes, with and without, each with an empty store. The two of a pair run at the same time, each held to a core of
its own, and the next pair has the cores swapped: a machine whose speed drifts slows both alike, and a process that has one core
pays for all that logging computes. Claims: less than 5 % from the first to the last epoch, at most 3 s to close a run.

    python benchmarks/logging_overhead.py            # about 8 minutes
    python benchmarks/logging_overhead.py --quick    # under a minute; writes nothing
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import common

NAME = "logging_overhead"
LIMIT_SHARE, LIMIT_CLOSE = 0.05, 3.0
CORES = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []


def train(mode: str, epochs: int, rows: int) -> dict[str, Any]:
    """Train once, in this process; how long each epoch, the calls that told of it and closing took."""
    import numpy as np

    import kdfuse as kf
    from kdfuse import recording, runtime
    from kdfuse.tracking.mlflow_recorder import MlflowRecorder

    runtime.tensorflow()
    moments: list[float] = []
    busy: list[float] = []
    closing: list[float] = []
    calls: list[float] = []

    class Clock(MlflowRecorder if mode != "off" else recording.Recorder):  # type: ignore[misc]
        """The recorder to be measured, or none, with a clock around it."""

        def log(self, run: Any, values: Any, step: Any, moment: float) -> None:
            begun = time.perf_counter()
            super().log(run, values, step, moment)
            if step is not None:
                calls.append(time.perf_counter() - begun)
                moments.append(time.perf_counter())
                busy.append(time.process_time())

        def model(self, run: Any, model: Any, inputs: Any, name: str = "model") -> None:
            begun = time.perf_counter()
            super().model(run, model, inputs, name)
            closing.append(time.perf_counter() - begun)

        def end(self, run: Any, status: Any, report: Any, moment: float) -> None:
            begun = time.perf_counter()
            super().end(run, status, report, moment)
            closing.append(time.perf_counter() - begun)

    digits = kf.datasets.load("digits")
    x, y, _ = digits.train.head(10**6)
    order = np.arange(rows) % len(x)
    data = kf.Data(train=(x[order], y[order]), validation=digits.validation, test=digits.test, name="digits, repeated")
    model = kf.models.mlp(data, units=(256, 256))
    with recording.use(Clock()):
        begun = time.perf_counter()
        kf.Train(epochs=epochs, batch_size=64)(model, data)
    return {
        "epochs": [later - earlier for earlier, later in itertools.pairwise(moments)],
        "calls": calls,
        "first_to_last": moments[-1] - moments[0],
        "start_to_last": moments[-1] - begun,
        "first_to_last_cpu": busy[-1] - busy[0],
        "closing": sum(closing),
    }


def pair(cores: dict[str, int], epochs: int, rows: int) -> dict[str, dict[str, Any]]:
    """`train` in new processes with an empty home, side by side: a mode on each core."""
    with contextlib.ExitStack() as stack:
        processes, homes = {}, {}
        for mode, core in cores.items():
            homes[mode] = home = stack.enter_context(tempfile.TemporaryDirectory(prefix="kdfuse-benchmark-"))
            environment = {**os.environ, "KDFUSE_HOME": home, "KDFUSE_TRACKING": mode, "TF_CPP_MIN_LOG_LEVEL": "3"}
            environment.pop("MLFLOW_TRACKING_URI", None)
            command = [sys.executable, __file__, "--one", mode, "--core", str(core), "--epochs", str(epochs), "--rows", str(rows)]
            processes[mode] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        found = {}
        for mode, process in processes.items():
            printed, _ = process.communicate()
            if process.returncode != 0:
                raise SystemExit("A training process failed.")
            found[mode] = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
            found[mode]["complete"] = not list(Path(homes[mode], "journal").glob("*/events.jsonl"))
        return found


def one_second(quick: bool) -> int:
    """How many rows make an epoch of one second on this machine: whole groups of the 32 steps that run together."""
    rows = 20480
    first, second = CORES
    seconds = statistics.median(pair({"off": first, "on": second}, 5, rows)["off"]["epochs"])
    return 2048 * max(1, round(rows / seconds * (0.3 if quick else 1.0) / 2048))


def table(results: dict[str, Any]) -> str:
    """The figures of all pairs."""
    measured, pairs = results["pairs"], len(results["pairs"])
    low, share, high = common.median_interval([one["share"] for one in measured])
    epoch = statistics.median(seconds for one in measured for seconds in one["without"]["epochs"])
    rows = [
        ["epoch, median (s)", f"{epoch:.2f}", ""],
        [f"first to last of {results['epochs']} epochs, median of {pairs} pairs", f"{share:+.1%}", f"< {LIMIT_SHARE:.0%}"],
        ["its 95 % interval", f"{low:+.1%} to {high:+.1%}", ""],
        ["the same, best and worst pair", " to ".join(f"{f(one['share'] for one in measured):+.1%}" for f in (min, max)), ""],
        ["the same in CPU time, median", f"{statistics.median(one['share_of_cpu'] for one in measured):+.1%}", ""],
        ["closing a run, slowest (s)", f"{max(one['with']['closing'] for one in measured):.2f}", f"<= {LIMIT_CLOSE:.0f}"],
        ["runs that MLflow has in full", f"{sum(one['with']['complete'] for one in measured)} of {pairs}", ""],
    ]
    how = "Pairs of processes at the same time, each held to one of 2 shared CPU cores, swapped from pair to pair"
    return f"{common.markdown(['tracking', 'measured', 'limit'], rows)}\n\n{how} (`benchmarks/logging_overhead.py`)."


def main() -> None:
    """Measure, print, and write the results of every pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair of six short epochs; writes nothing")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--one", choices=("on", "off"), help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--table", action="store_true", help="only write the table of the documentation from the committed results")
    given = parser.parse_args()
    if given.table:
        common.into_page(NAME, table(common.load(NAME)))
        return
    if given.one:
        os.sched_setaffinity(0, {given.core})
        print(json.dumps(train(given.one, given.epochs, given.rows)), flush=True)
        return
    if len(CORES) < 2:
        raise SystemExit("This benchmark holds processes to cores: it needs Linux and two of them.")
    epochs, pairs = (6, 1) if given.quick else (given.epochs, given.pairs)
    rows = given.rows or one_second(given.quick)
    measured = []
    for place in range(pairs):
        found = pair(dict(zip(("off", "on"), CORES if place % 2 == 0 else reversed(CORES), strict=True)), epochs, rows)
        measured.append({"share": found["on"]["first_to_last"] / found["off"]["first_to_last"] - 1,
                         "share_of_cpu": found["on"]["first_to_last_cpu"] / found["off"]["first_to_last_cpu"] - 1,
                         "without": found["off"], "with": found["on"]})  # fmt: skip
        one = measured[-1]
        print(f"pair {place}: {one['share']:+.1%}, CPU {one['share_of_cpu']:+.1%}, closing {found['on']['closing']:.2f} s", flush=True)
    results = {"epochs": epochs, "rows": rows, "pairs": measured}
    print(table(results))
    if not given.quick:
        from kdfuse.home import write_atomic

        write_atomic(common.RESULTS / f"{NAME}.json", (json.dumps(results, indent=1) + "\n").encode())
        common.into_page(NAME, table(results))
    share, closing = statistics.median(one["share"] for one in measured), max(one["with"]["closing"] for one in measured)
    if share >= LIMIT_SHARE or closing > LIMIT_CLOSE:
        raise SystemExit("A limit is not held.")


if __name__ == "__main__":
    main()
