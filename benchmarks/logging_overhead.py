"""What tracking costs: twenty one-second epochs with and without it, and how long the end of a run takes.

Each training is a process of its own with an empty store, so that MLflow's import and the making of its database are
in it. With and without take turns, and so does which of them comes first. Claims: less than 5 % from the first to the
last epoch, at most 3 s to close a run.

    python benchmarks/logging_overhead.py            # about 3 minutes
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


def train(tracking: bool, epochs: int, rows: int) -> dict[str, Any]:
    """Train once, in this process; when each epoch ended, and how long closing took."""
    import numpy as np

    import kdfuse as kf
    from kdfuse import recording, runtime
    from kdfuse.tracking.mlflow_recorder import MlflowRecorder

    runtime.tensorflow()
    moments: list[float] = []
    busy: list[float] = []
    closing: list[float] = []

    class Clock(MlflowRecorder if tracking else recording.Recorder):  # type: ignore[misc]
        """The recorder to be measured, or none, with a clock around it."""

        def log(self, run: Any, values: Any, step: Any, moment: float) -> None:
            super().log(run, values, step, moment)
            if step is not None:
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
        "first_to_last": moments[-1] - moments[0],
        "start_to_last": moments[-1] - begun,
        "first_to_last_cpu": busy[-1] - busy[0],
        "closing": sum(closing),
    }


def in_process(tracking: bool, epochs: int, rows: int) -> dict[str, Any]:
    """`train` in a new process with an empty home; also how long the process took to end afterwards."""
    with tempfile.TemporaryDirectory(prefix="kdfuse-benchmark-") as home:
        environment = {**os.environ, "KDFUSE_HOME": home, "KDFUSE_TRACKING": "on" if tracking else "off", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, __file__, "--one", "on" if tracking else "off", "--epochs", str(epochs), "--rows", str(rows)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("{"))
        ended = time.perf_counter()
        if process.wait() != 0:
            raise SystemExit("A training process failed.")
        journals = list(Path(home, "journal").glob("*/events.jsonl"))
        return {**json.loads(line), "exit": time.perf_counter() - ended, "complete": not journals}


def one_second(quick: bool) -> int:
    """How many rows make an epoch of one second on this machine."""
    rows = 20000
    seconds = statistics.median(in_process(False, 5, rows)["epochs"])
    return max(1347, int(rows / seconds * (0.3 if quick else 1.0)))


def main() -> None:
    """Measure, print, and write the results of every repeat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat of six short epochs; writes nothing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--one", choices=("on", "off"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(train(given.one == "on", given.epochs, given.rows)), flush=True)
        return
    from benchmarks.common import RESULTS, markdown

    epochs, repeats = (6, 1) if given.quick else (given.epochs, given.repeats)
    rows = given.rows or one_second(given.quick)
    measured = []
    for repeat in range(repeats):
        turns = {tracking: in_process(tracking, epochs, rows) for tracking in ((False, True) if repeat % 2 == 0 else (True, False))}
        without, tracked = turns[False], turns[True]
        measured.append(
            {
                "share": tracked["first_to_last"] / without["first_to_last"] - 1,
                "share_of_cpu": tracked["first_to_last_cpu"] / without["first_to_last_cpu"] - 1,
                "share_from_start": tracked["start_to_last"] / without["start_to_last"] - 1,
                "closing": tracked["closing"],
                "without": without,
                "with": tracked,
            }
        )
        last = measured[-1]
        print(f"repeat {repeat}: {last['share']:+.1%} from first to last epoch, closing {last['closing']:.2f} s", flush=True)
    share = statistics.median(one["share"] for one in measured)
    closing = max(one["closing"] for one in measured)
    epoch = statistics.median(seconds for one in measured for seconds in one["without"]["epochs"])
    rows_of_table = [
        ["epoch, median (s)", f"{epoch:.2f}", ""],
        ["first to last epoch, median of the repeats", f"{share:+.1%}", f"< {LIMIT_SHARE:.0%}"],
        ["first to last epoch, worst repeat", f"{max(one['share'] for one in measured):+.1%}", ""],
        ["the same in CPU time, median", f"{statistics.median(one['share_of_cpu'] for one in measured):+.1%}", ""],
        ["start of the run to last epoch, median", f"{statistics.median(one['share_from_start'] for one in measured):+.1%}", ""],
        ["closing a run, slowest (s)", f"{closing:.2f}", f"<= {LIMIT_CLOSE:.0f}"],
        ["runs that MLflow has in full", f"{sum(one['with']['complete'] for one in measured)} of {repeats}", ""],
    ]
    print(markdown(["tracking", "measured", "limit"], rows_of_table))
    if not given.quick:
        from kdfuse.home import write_atomic

        results = {"epochs": epochs, "rows": rows, "median_share": share, "slowest_closing": closing, "repeats": measured}
        write_atomic(RESULTS / f"{NAME}.json", (json.dumps(results, indent=1) + "\n").encode())
    if share >= LIMIT_SHARE or closing > LIMIT_CLOSE:
        raise SystemExit("A limit is not held.")


if __name__ == "__main__":
    main()
