"""kdfuse.report: one vocabulary, and tables that a person can read."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kdfuse.report import (
    FIGURES,
    QUALITY,
    SPLITS,
    TABLE,
    Report,
    best,
    differences,
    figure,
    format_cell,
    format_figure,
    format_table,
    means,
    objective,
    paired,
    without_deltas,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("test/accuracy", "accuracy"),
        ("validation/log_loss", "log loss"),
        ("tflite/accuracy", "accuracy"),
        ("test/digit/macro_f1", "macro F1"),
        ("size/parameters", "parameters"),
        ("kd/agreement", "agreement"),
        ("delta/teacher/test/accuracy", "accuracy"),
        ("delta/control/size/keras_bytes", "bytes"),
    ],
)
def test_the_vocabulary_knows(name: str, title: str) -> None:
    known = figure(name)
    assert known is not None and known.title == title


@pytest.mark.parametrize("name", ["accuracy", "foo/accuracy", "test/", "test/loss", "delta/teacher", "delta/teacher/foo", "size/foo", ""])
def test_the_vocabulary_does_not_know(name: str) -> None:
    assert figure(name) is None


def test_every_name_of_the_vocabulary_is_whole() -> None:
    names = [*FIGURES, *(f"{split}/{name}" for split in SPLITS for name in QUALITY)]
    for name in names:
        assert figure(name) is not None and objective(name) == name
        assert figure(f"delta/teacher/{name}") == figure(name)
    assert set(TABLE) <= set(names)


def test_a_bare_objective_means_validation() -> None:
    assert objective("accuracy") == "validation/accuracy"
    assert objective("parameters") == "size/parameters"
    assert objective("macs") == "cost/macs"
    assert objective("test/accuracy") == "test/accuracy"


@pytest.mark.parametrize(("wrong", "near"), [("acuracy", "accuracy"), ("parameter", "parameters"), ("p50", "p50_ms")])
def test_an_unknown_objective_names_the_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"'{wrong}' is not a figure that kdfuse measures.*'{near}'"):
        objective(wrong)


def full_report() -> Report:
    return Report(
        "Distill", {"training__epochs": 3, "teacher": None},
        {"test/accuracy": 0.9725, "validation/accuracy": 0.98, "size/parameters": 1234.0},
        {"train/loss": [1.0, 0.5]}, {"models": [{"model": "student", "test/accuracy": 0.9725}], "confusion/test": [{"true": "0", "0": 5}]},
        {"tflite": Path("folder") / "model.tflite"}, ["a note"], 1.25, [Report("Train", name="inner", metrics={"test/mae": 1.0})], "mine",
    )  # fmt: skip


def test_figures_are_read_by_full_and_by_bare_name() -> None:
    report = full_report()
    assert report["test/accuracy"] == 0.9725
    assert report["accuracy"] == 0.98
    assert report["parameters"] == 1234
    with pytest.raises(KeyError, match="no 'validation/log_loss'. It has: size/parameters, test/accuracy, validation/accuracy"):
        report["log_loss"]
    with pytest.raises(ValueError, match="acuracy"):
        report["acuracy"]
    report.metrics["mine"] = 1.0
    assert report["mine"] == 1.0


def test_a_report_comes_back_from_json_whole() -> None:
    report = full_report()
    again = Report.from_json(report.to_json())
    assert again == report
    assert isinstance(again.files["tflite"], Path) and isinstance(again.children[0], Report)


def test_numpy_numbers_come_back_as_numbers() -> None:
    report = Report(metrics={"test/accuracy": np.float32(0.5), "size/parameters": np.int64(7)}, history={"train/loss": [np.float32(0.25)]})  # type: ignore[dict-item,list-item]
    report.tables["t"] = [{"row": np.array([1, 2])}]
    again = Report.from_json(report.to_json())
    assert again.metrics == {"test/accuracy": 0.5, "size/parameters": 7}
    assert again.history == {"train/loss": [0.25]}
    assert again.tables == {"t": [{"row": [1, 2]}]}
    json.loads(report.to_json())


def test_a_figure_that_is_no_number_survives_json() -> None:
    assert math.isnan(Report.from_json(Report(metrics={"test/r2": math.nan}).to_json()).metrics["test/r2"])


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test/accuracy", 0.97254, "0.9725"),
        ("size/parameters", 1234567, "1,234,567"),
        ("size/keras_bytes", 2048.0, "2,048"),
        ("latency/p50_ms", 1.23456, "1.235"),
        ("test/log_loss", 0.000123456, "0.0001235"),
        ("delta/teacher/test/accuracy", -0.01, "-0.0100"),
        ("delta/teacher/test/accuracy", 0.01, "+0.0100"),
        ("delta/teacher/size/parameters", -12345, "-12,345"),
        ("test/accuracy", None, ""),
        ("test/accuracy", math.nan, ""),
        ("test/accuracy", np.float32("nan"), ""),
        ("test/accuracy", np.float64(0.5), "0.5000"),
        ("model", "student", "student"),
        ("mine", 0.123456, "0.1235"),
        ("mine", np.float32(0.123456), "0.1235"),
        ("mine", 12, "12"),
        ("test/accuracy", "n/a", "n/a"),
    ],
)
def test_figures_are_printed_in_their_style(name: str, value: object, text: str) -> None:
    assert format_figure(name, value) == text


def test_a_table_is_aligned_and_shows_what_some_row_has() -> None:
    rows = [
        {"model": "student", "test/accuracy": 0.97, "size/parameters": 1234, "test/unheard": 1},
        {"model": "a long name", "test/accuracy": 0.981, "kd/agreement": None},
    ]
    assert format_table(rows) == "\n".join(
        [
            "model        accuracy  agreement  parameters",
            "-----------  --------  ---------  ----------",
            "student        0.9700                  1,234",
            "a long name    0.9810",
        ]
    )


def test_a_tables_titles_tell_splits_outputs_and_differences_apart() -> None:
    columns = ["model", "validation/accuracy", "test/digit/accuracy", "delta/teacher/test/accuracy", "latency/p50_ms"]
    assert format_table([], columns).splitlines()[0].split("  ") == [
        "model", "validation accuracy", "digit accuracy", "accuracy - teacher", "latency (ms)",
    ]  # fmt: skip


def test_a_report_prints_its_table_and_notes() -> None:
    assert str(full_report()).splitlines() == ["mine: 1.2 s", "model    accuracy", "-------  --------", "student    0.9725", "- a note"]
    assert "Train" in str(Report("Train"))
    assert Report("Train", metrics={"test/accuracy": 1.0}).rows() == [{"model": "Train", "test/accuracy": 1.0}]


def test_the_best_is_chosen_on_validation_alone():
    rows = [
        {"validation/accuracy": 0.8, "test/accuracy": 0.9},
        {"validation/accuracy": 0.9, "test/accuracy": 0.7},
        {"validation/accuracy": 0.85},
    ]
    assert best(rows) == (1, "the best on validation")
    assert best([{"validation/rmse": 0.2}, {"validation/rmse": 0.3}]) == (0, "the best on validation")
    assert best([{"test/accuracy": 0.9}, {"test/accuracy": 0.7}]) == (1, "the last")
    assert best([{"validation/accuracy": 0.9}, {"validation/accuracy": float("nan")}]) == (1, "the last")


def test_means_are_of_figures_of_splits_that_all_have():
    rows = [
        {"test/accuracy": 0.5, "test/ece": 0.1, "size/parameters": 3.0, "delta/teacher/test/accuracy": 1.0},
        {"test/accuracy": 0.7, "size/parameters": 5.0},
    ]
    assert means(rows) == {"mean/test/accuracy": pytest.approx(0.6)}
    assert without_deltas(rows[0]) == {"test/accuracy": 0.5, "test/ece": 0.1, "size/parameters": 3.0}


def test_a_numbered_baseline_belongs_to_one_row():
    assert paired("control 2", "student 2") == "control" and paired("control 1", "student 2") is None
    assert paired("teacher", "student 2") == "teacher" and paired("teacher A", "student") == "teacher A"
    ours, other = {"test/accuracy": 0.9, "latency/p50_ms": 1.0, "odd": 1.0}, {"test/accuracy": 0.7, "latency/p50_ms": 3.0, "odd": 2.0}
    assert (
        differences("control", ours, other) == {"delta/control/test/accuracy": pytest.approx(0.2)} and differences(None, ours, other) == {}
    )


@pytest.mark.parametrize(
    ("name", "value", "spread", "text"),
    [
        ("test/accuracy", 0.97213, 0.00312, "97.2 ± 0.3 %"),
        ("test/accuracy", 0.97213, 0.00012, "97.21 ± 0.01 %"),
        ("test/log_loss", 0.2314, 0.0, "0.2314"),
        ("size/keras_bytes", 132337.5, 0.71, "132,338 ± 1"),
        ("test/accuracy", 0.5, 0.0, "50.0 ± 0.0 %"),
        ("delta/control/test/accuracy", 0.012, 0.004, "+1.2 ± 0.4 %"),
        ("test/log_loss", 0.2314, 0.0123, "0.231 ± 0.012"),
        ("latency/p50_ms", 12.34, 25.0, "12 ± 25"),
        ("size/parameters", 1234.0, 0.0, "1,234"),
        ("test/accuracy", 0.97213, None, "0.9721"),
        ("test/accuracy", None, 0.1, ""),
    ],
)
def test_a_value_with_its_spread(name, value, spread, text):
    row = {"model": "a", name: value} | ({} if spread is None else {f"sd/{name}": spread})
    assert format_cell(row, name) == text


def test_the_vocabulary_knows_means_and_spreads():
    assert figure("mean/test/accuracy") == figure("test/accuracy")
    assert figure("sd/test/accuracy").better == "lower" and figure("sd/delta/teacher/test/rmse").style == "number"
    assert figure("sd/odd") is None and figure("mean/odd") is None
    shown = format_table([{"model": "a", "mean/test/accuracy": 0.5}], ["model", "mean/test/accuracy"])
    assert "mean accuracy" in shown
