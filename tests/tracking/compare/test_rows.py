"""From records to rows."""

import statistics
from typing import Any

import pytest

from kdfuse.tracking.compare.records import Record, read
from kdfuse.tracking.compare.rows import is_seed, moments, rows


def record(name: str, seed: int = 0, accuracy: float = 0.5, **more: Any) -> Record:
    given: dict[str, Any] = {
        "id": f"{name}-{seed}-{accuracy}", "technique": "Train", "parent": None, "status": "finished", "started": 0.0,
        "settings": {"training__seed": seed, "epochs": 3}, "tags": {"key": f"{name} {seed} {accuracy}"},
        "metrics": {"test/accuracy": accuracy, "size/parameters": 10.0, "size/keras_bytes": 100.0, "train/accuracy": 1.0},
    }  # fmt: skip
    return Record(name=name, **{**given, **more})


def test_runs_that_differ_in_seeds_are_one_row_with_mean_and_spread() -> None:
    [row] = rows([record("seed 1", 1, 0.5), record("seed 2", 2, 0.75), record("seed 3", 3, 0.625)])
    assert row.values["n"] == 3 and row.values["model"] == "Train" and row.values["epochs"] == 3 and row.values["bytes"] == 100
    assert "training__seed" not in row.values and "train/accuracy" not in row.values
    assert row.values["test/accuracy"] == statistics.mean([0.5, 0.75, 0.625])
    assert row.values["sd/test/accuracy"] == pytest.approx(statistics.stdev([0.5, 0.75, 0.625]), rel=1e-12)


def test_other_settings_sizes_or_names_are_other_rows() -> None:
    other = record("a", 1, settings={"training__seed": 1, "epochs": 4})
    larger = record("a", 0, metrics={"test/accuracy": 0.5, "size/parameters": 20.0}, tags={"key": "larger"})
    made = rows([record("a", 0), other, larger, record("b", 3)])
    assert [row.values["n"] for row in made] == [1, 1, 1, 1]
    assert [row.values["model"] for row in made] == ["a · epochs 3 · 10 parameters", "a · epochs 4", "a · epochs 3 · 20 parameters", "b"]


def test_the_same_run_twice_counts_once() -> None:
    again = record("a", 0, tags={"key": "same"})
    [row] = rows([again, record("a", 0, 0.75, tags={"key": "same"})])
    assert row.values["n"] == 1 and row.values["test/accuracy"] == 0.75


def test_names_lose_their_seed_and_keep_what_is_common() -> None:
    made = rows([record("student 16, seed 1", 1, 0.5), record("student 16, seed 2", 2, 0.75)])
    assert [row.values["model"] for row in made] == ["student 16"]
    made = rows([record("net (seed=1)", 1, 0.5), record("net (seed=2)", 2, 0.75)])
    assert [row.values["model"] for row in made] == ["net"]


def test_a_teacher_counts_by_the_run_that_made_it() -> None:
    records = []
    for seed in (0, 1):
        teacher = record("teacher", seed, id=f"t{seed}")
        settings = {"teacher": f"mlp:{seed:016x}", "training__seed": seed}
        records += [teacher, record("student", seed, settings=settings, tags={"teacher_run": f"t{seed}", "key": f"s{seed}"})]
    assert [(row.values["model"], row.values["n"]) for row in rows(records)] == [("teacher", 2), ("student", 2)]
    lone = [record("student", seed, settings={"teacher": f"mlp:{seed:016x}"}, tags={"key": f"{seed}"}) for seed in (0, 1)]
    assert [row.values["n"] for row in rows(lone)] == [1, 1]


def test_rows_that_nothing_tells_apart_have_numbers() -> None:
    runs = [record("a", 0, tags={"key": str(place), "data_fingerprint": str(place)}) for place in (1, 2)]
    assert [row.values["model"] for row in rows(runs)] == ["a #1", "a #2"]


def test_what_is_inside_other_techniques_is_left_out_unless_asked_for() -> None:
    chain = record("chain", technique="Chain", id="c")
    records = [record("group", technique="track", id="g"), record("alone", parent="g"), chain, record("step", parent="c"),
               record("failed", status="failed"), record("empty", metrics={"train/loss": 1.0})]  # fmt: skip
    assert [row.values["model"] for row in rows(records)] == ["alone", "chain"]
    assert [row.values["model"] for row in rows(records, nested=True)] == ["alone", "chain", "chain, step"]


def test_steps_that_are_alike_inside_techniques_of_other_names_are_called_by_their_own() -> None:
    outer = [record("small", technique="Chain", id="a"), record("small, take 2", 5, technique="Prune", id="b")]
    steps = [record("1. Train", place, parent=parent, settings={"seed": place}) for place, parent in enumerate("ab")]
    assert [row.values["model"] for row in rows([*outer, *steps], nested=True)] == ["small", "small, take 2", "1. Train"]


def test_by_seed_each_run_is_a_row() -> None:
    runs = [record("a", 1), record("a", 2)]
    repeat = record("r", technique="Repeat", id="r", settings={"seeds__0": 1, "seeds__1": 2, "training__seed": 0})
    inner = [record(f"seed {seed}", seed, parent="r", id=f"r{seed}") for seed in (1, 2)]
    assert [(row.values["model"], row.values["n"]) for row in rows([*runs, repeat, *inner])] == [("a", 2), ("r", 2)]
    named = [row.values["model"] for row in rows([*runs, repeat, *inner], by_seed=True)]
    assert named == ["a · seed 1", "a · seed 2", "r, seed 1", "r, seed 2"]


def test_real_runs(digits: str) -> None:
    reading = read(digits)
    found = {row.values["model"]: row.values for row in rows(reading.records)}
    assert {name: row["n"] for name, row in found.items()} == {"teacher": 2, "student": 2, "Repeat": 2, "chain": 1}
    teachers = [one.metrics["test/accuracy"] for one in reading.records if one.name == "teacher"]
    assert found["teacher"]["test/accuracy"] == pytest.approx(statistics.mean(teachers))
    assert found["teacher"]["sd/test/accuracy"] == pytest.approx(statistics.stdev(teachers))
    differences = [one.metrics["delta/teacher/test/accuracy"] for one in reading.records if one.name.startswith("student")]
    assert found["student"]["delta/teacher/test/accuracy"] == pytest.approx(statistics.mean(differences))
    assert len(rows(reading.records, by_seed=True)) == 7


def test_seeds_and_moments() -> None:
    assert all(map(is_seed, ("seed", "training__seed", "seeds__0", "seeds"))) and not is_seed("seedling") and not is_seed("seed__x")
    assert moments([{"test/accuracy": 0.5, "note": "x", "odd": 1.0}]) == {"test/accuracy": 0.5}
    assert moments([{"test/accuracy": 0.5}, {}]) == {}
