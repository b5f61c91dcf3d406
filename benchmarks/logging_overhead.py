"""What tracking costs: twenty one-second epochs with and without it, and how long the end of a run takes.

Two measures. Epoch by epoch: one run of forty one-second epochs tells every other epoch to MLflow; what an epoch costs that
is told (the call at its end, and the sending that goes on beside the next one) is set against its neighbours, so that a machine
whose speed drifts does not blur it; it cannot see what slows all epochs of a process alike. And whole processes, with and
without, each with an empty store, so that MLflow's import and the making of its database are in it. Claims: less than 5 % from
the first to the last epoch, at most 3 s to close a run.

    python benchmarks/logging_overhead.py            # about 6 minutes
    python benchmarks/logging_overhead.py --quick    # under a minute; writes nothing
"""

import argparse
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

sys.path.insert(0, str(Path(__file__).parent.parent))

NAME = "logging_overhead"
LIMIT_SHARE, LIMIT_CLOSE = 0.05, 3.0


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
            if step is None or mode != "alternate" or step % 2:
                super().log(run, values, step, moment)
            if step is not None:
                calls.append(time.perf_counter() - begun)
                moments.append(time.perf_counter())
                busy.append(time.process_time())

        def model(self, run: Any, model: Any, inputs: Any) -> None:
            begun = time.perf_counter()
            super().model(run, model, inputs)
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


def neighbours(run: dict[str, Any]) -> list[float]:
    """Of a run that tells every other epoch: the seconds of each told epoch over the mean of the two beside it."""
    seconds = list(run["epochs"])
    for place in range(len(seconds)):  # seconds[i] is the epoch i + 1, during which what was said after epoch i is sent
        call = run["calls"][place + 1]
        seconds[place] -= call
        if place + 1 < len(seconds):
            seconds[place + 1] += call
    told = range(1, len(seconds) - 1, 2)
    return [seconds[place] / ((seconds[place - 1] + seconds[place + 1]) / 2) - 1 for place in told]


def in_process(mode: str, epochs: int, rows: int) -> dict[str, Any]:
    """`train` in a new process with an empty home; also how long the process took to end afterwards."""
    with tempfile.TemporaryDirectory(prefix="kdfuse-benchmark-") as home:
        environment = {**os.environ, "KDFUSE_HOME": home, "KDFUSE_TRACKING": "off" if mode == "off" else "on", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, __file__, "--one", mode, "--epochs", str(epochs), "--rows", str(rows)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("{"))
        ended = time.perf_counter()
        if process.wait() != 0:
            raise SystemExit("A training process failed.")
        journals = list(Path(home, "journal").glob("*/events.jsonl"))
        return {**json.loads(line), "exit": time.perf_counter() - ended, "complete": not journals}


def one_second(quick: bool) -> int:
    """How many rows make an epoch of one second on this machine: whole groups of the 32 steps that run together."""
    rows = 20480
    seconds = statistics.median(in_process("off", 5, rows)["epochs"])
    return 2048 * max(1, round(rows / seconds * (0.3 if quick else 1.0) / 2048))


def main() -> None:
    """Measure, print, and write the results of every repeat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat of six short epochs; writes nothing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--one", choices=("on", "off", "alternate"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(train(given.one, given.epochs, given.rows)), flush=True)
        return
    from benchmarks.common import RESULTS, into_readme, markdown, median_interval

    epochs, repeats = (6, 1) if given.quick else (given.epochs, given.repeats)
    rows = given.rows or one_second(given.quick)
    measured = []
    for repeat in range(repeats):
        turns = {mode: in_process(mode, epochs, rows) for mode in (("off", "on") if repeat % 2 == 0 else ("on", "off"))}
        without, tracked = turns["off"], turns["on"]
        shares = neighbours(in_process("alternate", 2 * epochs, rows))
        measured.append(
            {
                "told_epochs": shares,
                "share": tracked["first_to_last"] / without["first_to_last"] - 1,
                "share_of_cpu": tracked["first_to_last_cpu"] / without["first_to_last_cpu"] - 1,
                "share_from_start": tracked["start_to_last"] / without["start_to_last"] - 1,
                "closing": tracked["closing"],
                "without": without,
                "with": tracked,
            }
        )
        told, whole = statistics.median(shares), measured[-1]["share"]
        print(f"repeat {repeat}: {told:+.1%} an epoch, {whole:+.1%} process by process, closing {tracked['closing']:.2f} s", flush=True)
    paired = [value for one in measured for value in one["told_epochs"]]
    low, share, high = median_interval(paired)
    closing = max(one["closing"] for one in measured)
    epoch = statistics.median(seconds for one in measured for seconds in one["without"]["epochs"])
    rows_of_table = [
        ["epoch, median (s)", f"{epoch:.2f}", ""],
        [f"a told epoch beside its neighbours, median of {len(paired)}", f"{share:+.1%}", f"< {LIMIT_SHARE:.0%}"],
        ["its 95 % interval", f"{low:+.1%} to {high:+.1%}", ""],
        ["whole processes, first to last epoch, median", f"{statistics.median(one['share'] for one in measured):+.1%}", ""],
        ["the same, best and worst repeat", " to ".join(f"{f(one['share'] for one in measured):+.1%}" for f in (min, max)), ""],
        ["the same in CPU time, median", f"{statistics.median(one['share_of_cpu'] for one in measured):+.1%}", ""],
        ["start of the run to last epoch, median", f"{statistics.median(one['share_from_start'] for one in measured):+.1%}", ""],
        ["closing a run, slowest (s)", f"{closing:.2f}", f"<= {LIMIT_CLOSE:.0f}"],
        ["runs that MLflow has in full", f"{sum(one['with']['complete'] for one in measured)} of {repeats}", ""],
    ]
    table = markdown(["tracking", "measured", "limit"], rows_of_table)
    print(table)
    if not given.quick:
        from kdfuse.home import write_atomic

        results = {"epochs": epochs, "rows": rows, "median_share": share, "slowest_closing": closing, "repeats": measured}
        limits = "The limit is held against the first measure, which cannot see what slows all epochs of a process alike"
        into_readme(NAME, f"{table}\n\nOn 2 shared CPU cores. {limits} (`benchmarks/logging_overhead.py`).")
        write_atomic(RESULTS / f"{NAME}.json", (json.dumps(results, indent=1) + "\n").encode())
    if share >= LIMIT_SHARE or closing > LIMIT_CLOSE:
        raise SystemExit("A limit is not held.")


if __name__ == "__main__":
    main()
