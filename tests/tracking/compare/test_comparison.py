"""`kdfuse.compare`."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kdfuse as kf
from kdfuse.tracking.compare.comparison import compare

ROOT = Path(__file__).parents[3]


def four(add: Callable[..., Any]) -> None:
    """Four rows: big and small are on the front, bad is not, and seeds have a spread."""
    figures = {"big": (0.95, 0.9, 1000, 2000), "small": (0.75, 0.8, 10, 20), "bad": (0.5, 0.95, 500, 900)}
    for name, (validation, test, parameters, macs) in figures.items():
        metrics = {"validation/accuracy": validation, "test/accuracy": test, "size/parameters": parameters, "cost/macs": macs,
                   "size/keras_bytes": parameters * 4}  # fmt: skip
        add(name, metrics, {"training__epochs": len(name), "seed": 0})
    for seed in (1, 2):
        metrics = {"validation/accuracy": 0.8 + seed / 100, "test/accuracy": 0.8, "size/parameters": 600, "cost/macs": 1000}
        add(f"seeds {seed}", metrics, {"training__epochs": 9, "seed": seed}, key=str(seed))


def names(found: Any) -> list[str]:
    return [row["model"] for row in found.rows]


def test_sorted_filtered_and_the_front_marked(add: Callable[..., Any]) -> None:
    four(add)
    found = compare("made up")
    assert names(found) == ["big", "seeds", "small", "bad"] and found.sort == "validation/accuracy"  # validation chooses, not test
    assert [row["model"] for row in found.front] == ["big", "small"]
    assert names(compare("made up", sort="test/accuracy"))[0] == "bad" and names(compare("made up", sort="macs"))[0] == "small"
    assert names(compare("made up", sort="epochs")) == ["big", "bad", "small", "seeds"]
    small = compare("made up", where=["size/parameters < 600", "accuracy > 0.4"], columns=["accuracy", "n"])
    assert names(small) == ["small", "bad"] and small.columns == ["model", "validation/accuracy", "n"] and "2 of 4 rows fit." in small.notes
    apart = compare("made up", by_seed=True)
    assert names(apart) == ["big", "seeds 2", "seeds 1", "small", "bad"] and len(apart) == 5
    two = compare("made up", front=["accuracy", "parameters"])
    assert [row["model"] for row in two.front] == ["big", "seeds", "small"]


def test_differences_to_a_row(add: Callable[..., Any]) -> None:
    four(add)
    found = {row["model"]: row for row in compare("made up", baseline="big").rows}
    assert found["small"]["delta/big/test/accuracy"] == pytest.approx(-0.1) and found["small"]["delta/big/size/parameters"] == -990
    assert not any(name.startswith("delta/") for name in found["big"])
    with pytest.raises(ValueError, match=r"`baseline`: .*Received: baseline='large'\. The rows: 'big'"):
        compare("made up", baseline="large")


def test_the_table_as_text(add: Callable[..., Any]) -> None:
    four(add)
    found = compare("made up", columns="test/accuracy,parameters")
    lines = str(found).splitlines()
    assert lines[:3] == ["model  test accuracy  parameters", "-----  -------------  ----------", "big           90.0 %       1,000"]
    assert "sorted by validation accuracy; * on the Pareto front of validation accuracy, file bytes, MACs" in str(found)
    assert repr(found).startswith("Comparison of 'made up': 4 rows, 2 on the front\n") and "<table>" in found._repr_html_()


def test_files(add: Callable[..., Any], tmp_path: Path) -> None:
    four(add)
    found = compare("made up")
    rows = list(csv.DictReader(found.to_csv(tmp_path / "new" / "a.csv").open()))
    seeds = next(row for row in rows if row["model"] == "seeds")
    assert (seeds["n"], float(seeds["validation/accuracy"])) == ("2", pytest.approx(0.815))
    assert float(seeds["sd/validation/accuracy"]) == pytest.approx(0.00707, abs=1e-5) and rows[0]["size/parameters"] == "1000"
    text = found.to_markdown(tmp_path / "a.md").read_text()
    assert text == found.to_markdown() and "| big | * | 1 | 95.0 % | 90.0 % |" in text and text.startswith("# made up\n")
    page = found.to_html(tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "seeds" in page
    assert {path.name for path in tmp_path.iterdir()} == {"new", "a.md", "a.html"}


def test_what_cannot_be_compared(add: Callable[..., Any]) -> None:
    add("nothing measured", {})
    with pytest.raises(ValueError, match=r"`experiment`: expected one with finished runs .* has 1 runs, 1 of them .*none with figures"):
        compare("made up")
    four(add)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"sort": "acuracy"}, "`sort`: .*Did you mean"), ({"where": "size/parameters < 1"}, "`where`: .*none of 4 rows"),
        ({"columns": []}, "`columns`: expected at least one"), ({"columns": ["x/y"]}, "`columns`: expected a figure"),
        ({"front": ["test/accuracy", "macs"]}, "`front`: the test split"),
    ]  # fmt: skip
    for given, message in wrong:
        with pytest.raises(ValueError, match=message):
            compare("made up", **given)


def test_runs_that_did_not_finish_are_told(add: Callable[..., Any]) -> None:
    add("fine", {"validation/accuracy": 0.5, "cost/macs": 5})
    with pytest.raises(RuntimeError), kf.track("made up"):
        add("inside", {"validation/accuracy": 0.6, "cost/macs": 9})
        raise RuntimeError
    found = compare("made up")
    assert names(found) == ["inside", "fine"] and "1 of 3 runs did not finish" in found.notes[0]


def test_real_runs_without_keras(digits: str) -> None:
    code = f"import sys, kdfuse as kf; print(len(kf.compare({digits!r})), 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["4", "False", "False"]
