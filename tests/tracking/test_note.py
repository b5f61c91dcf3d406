"""The note of a run."""

from kdfuse.report import Report
from kdfuse.tracking.note import note, table, title


def test_note_has_the_table_and_the_notes() -> None:
    rows = [{"model": "student", "test/accuracy": 0.91, "size/parameters": 12345}, {"model": "teacher", "test/accuracy": 0.95}]
    text = note(Report(technique="Distill", metrics={"test/accuracy": 0.91}, tables={"models": rows}, notes=["One.", "Two."], seconds=3.21))
    assert text.splitlines() == [
        "**Distill** in 3.2 s",
        "",
        "| model | accuracy | parameters |",
        "| --- | ---: | ---: |",
        "| student | 0.9100 | 12,345 |",
        "| teacher | 0.9500 |  |",
        "",
        "- One.",
        "- Two.",
    ]


def test_a_bar_in_a_name_stays_in_its_cell() -> None:
    assert table([{"model": "a|b"}]).splitlines()[-1] == "| a\\|b |"


def test_steps_are_shown_and_counts_are_not() -> None:
    steps = [{"model": "1. Train", "test/accuracy": 0.5}]
    text = note(Report(technique="Chain", tables={"steps": steps, "confusion/test": [{"true": "0", "0": 1}]}))
    assert "**steps**" in text and "1. Train" in text and "confusion" not in text


def test_a_spread_stands_beside_its_mean() -> None:
    assert table([{"model": "a", "test/accuracy": 0.972, "sd/test/accuracy": 0.003}]).splitlines()[-1] == "| a | 97.2 ± 0.3 % |"


def test_heads() -> None:
    names = (
        "test/accuracy",
        "validation/accuracy",
        "tflite/accuracy",
        "test/digit/accuracy",
        "delta/teacher/test/accuracy",
        "latency/p50_ms",
        "x",
    )
    assert [title(name) for name in names] == ["accuracy", "validation accuracy", "tflite accuracy", "digit accuracy", "accuracy - teacher",
                                               "latency (ms)", "x"]  # fmt: skip
