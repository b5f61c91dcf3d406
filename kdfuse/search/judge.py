"""What is measured of a trial: quality on the validation split, size and cost. The test split is not read."""

from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.graph.heads import detect_head
from kdfuse.graph.macs import count_macs
from kdfuse.measure.latency import latency
from kdfuse.measure.measure import parts_of, told
from kdfuse.measure.predict import Pass, Run, one_pass
from kdfuse.measure.size import size
from kdfuse.search.goals import Goals
from kdfuse.splits import ArraySplit, Split, join

CHEAP = ("size/parameters", "size/nonzero")
MEASURED = (
    *CHEAP,
    "size/keras_bytes",
    "size/gzip_bytes",
    "size/unique",
    "size/huffman_bytes",
    "cost/macs",
    "latency/p50_ms",
    "latency/p95_ms",
)
"""What is measured of a trial beside its quality, where it is trained and nothing else."""
SMALL = 2048
"""Rows of a validation split for which no graph is made."""


def structure(model: keras.Model, data: Data) -> dict[str, float]:
    """Parameters and MACs, which training does not change."""
    found = {"size/parameters": float(sum(int(np.prod(weight.shape)) for weight in model.weights))}
    macs = count_macs(model, data.example(2))
    return found if macs is None else {**found, "cost/macs": float(macs)}


def judge(
    model: keras.Model, data: Data, goals: Goals, head: Any = "auto", done: Pass | None = None, known: dict[str, float] | None = None
) -> dict[str, float]:
    """The figures of a trial's model.

    Args:
        model: trained.
        data: its validation split is run.
        goals: sizes in bytes and latency are measured where they are among them.
        head: declared head of the model.
        done: the model's pass over the validation split, where that was made.
        known: what `structure` gave, where it was asked.
    """
    found: dict[str, float] = {}
    if data.validation is not None:
        done = done or one_pass(model, data.validation, run=_at_once(model, data))
        parts = parts_of(model, done, data, detect_head(model, data.task, data.example(64), head))
        figures, _ = told(parts, data, table=False)
        found = {f"validation/{name}": value for name, value in figures.items()}
    found |= structure(model, data) if known is None else known
    named = {*goals.objectives, *goals.limits}
    found["size/nonzero"] = float(sum(int(np.count_nonzero(np.asarray(weight))) for weight in model.weights))
    if any(name.startswith("size/") and name not in CHEAP for name in named):
        found |= size(model)
    return found | (latency(model, data.example(1)) if goals.timed else {})


def _at_once(model: keras.Model, data: Data) -> Run | None:
    """The model called layer by layer, for a few batches of a small split: a graph takes longer to make than to run there."""
    loops = any(isinstance(layer, keras.layers.RNN | keras.layers.TimeDistributed) for layer in model._flatten_layers())
    if loops or not isinstance(data.validation, ArraySplit) or len(data.validation) > SMALL:
        return None

    def run(inputs: Any) -> tuple[Any, Any]:
        outputs = model(inputs, training=False)
        return outputs, [getattr(output, "_keras_mask", None) for output in keras.tree.flatten(outputs)]

    return run


def passed(outputs: Any, split: Split) -> Pass:
    """The pass in which a model of one output gave these."""
    _, targets, weights = join(list(split.batches(1024)))
    return Pass(outputs, targets, weights, [None], "")
