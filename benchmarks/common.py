"""What the benchmarks share: per-seed results as JSON, their mean and spread, and the tables of the documentation."""

import json
import platform
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdfuse.home import write_atomic

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")


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


def into_page(name: str, table: str) -> None:
    """Put a table between `<!-- table: name -->` and `<!-- /table -->` of the README, or of the page of results."""
    pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- /table -->)", re.DOTALL)
    for page in PAGES:
        text = page.read_text()
        if pattern.search(text):
            write_atomic(page, pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text).encode())
            return
    raise SystemExit(f"None of {', '.join(page.name for page in PAGES)} has a place for the table {name!r}.")
