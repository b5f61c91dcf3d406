"""Chains, step by step."""

from kdfuse.tracking.compare.records import Record, read
from kdfuse.tracking.compare.rows import rows
from kdfuse.tracking.compare.steps import chains


def test_a_real_chain_tells_what_each_step_cost_and_gained(digits: str) -> None:
    reading = read(digits)
    [found] = chains(rows(reading.records), reading.records)
    given, pruned, clustered = found.lines
    assert found.model == "chain" and [line["model"] for line in found.lines] == ["input: student 1", "1. Prune", "2. Cluster"]
    assert pruned["size/nonzero"] < 0.6 * given["size/nonzero"]
    assert pruned["delta/previous/size/nonzero"] == pruned["size/nonzero"] - given["size/nonzero"]
    assert clustered["delta/previous/test/accuracy"] == clustered["test/accuracy"] - pruned["test/accuracy"]
    assert clustered["size/gzip_bytes"] < pruned["size/gzip_bytes"] < given["size/gzip_bytes"]
    assert {"test/accuracy", "delta/previous/size/gzip_bytes"} <= set(found.columns()) and "test/rmse" not in found.columns()


def test_runs_without_a_report_have_no_steps() -> None:
    lone = Record("a", "a", "Chain", None, "finished", 0.0, {}, {"test/accuracy": 0.5}, {})
    assert chains(rows([lone]), [lone]) == []
