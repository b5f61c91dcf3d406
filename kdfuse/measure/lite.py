"""What a `.tflite` file is worth and what it costs: the file itself is run, not the model it was made from."""

import gzip
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.export.lite_model import LiteModel
from kdfuse.graph.heads import detect_head
from kdfuse.measure.latency import latency as timed
from kdfuse.measure.measure import EXAMPLE_ROWS, Measured, agreement_with, parts_of, told
from kdfuse.measure.predict import Run, one_pass, runner
from kdfuse.measure.quality import quality

REPEATS, CLOSE = 1000, 1 / 64


def file_figures(lite: LiteModel) -> dict[str, float]:
    """`size/tflite_bytes`, `size/tflite_gzip_bytes`, and `size/integer_share`: the share of operations that compute in integers."""
    found = {"size/tflite_bytes": float(lite.bytes), "size/tflite_gzip_bytes": float(len(gzip.compress(lite.data, 6, mtime=0)))}
    return found if lite.integer_share is None else {**found, "size/integer_share": lite.integer_share}


def lite_latency(lite: LiteModel, example: Any) -> dict[str, float]:
    """`latency/tflite_p50_ms` and `latency/tflite_p95_ms` of one row, the interpreter alone, on as many threads as `lite` has.

    Args:
        lite: the file.
        example: a batch of inputs; its first row is used.
    """
    return {name.replace("latency/", "latency/tflite_"): value for name, value in timed(lite, example, REPEATS).items()}


def is_lite(name: str) -> bool:
    """Whether a figure is one of a file, as `measure_lite` gives them."""
    return name.startswith(("tflite/", "size/tflite_", "latency/tflite_")) or name == "size/integer_share"


def measure_lite(
    path: Path, model: keras.Model, data: Data, *, head: Any = "auto", measured: Any = None, latency: bool = True
) -> tuple[dict[str, float], list[str]]:
    """Run a file over the test split (else validation) and tell what it is worth.

    Args:
        path: the file.
        model: the model that it was made from.
        data: where quality is measured.
        head: of the model, if it is declared.
        measured: the model as `measure` measured it (`Measured`), to compare with; it is run again where this is anything else.
        latency: whether to time it (half a second).

    Returns:
        Figures and notes. The figures are the quality under `tflite/`, as `test/` has it; `tflite/agreement`: the share of rows on
        which file and model decide alike; `size/tflite_bytes`, `size/tflite_gzip_bytes`, `size/integer_share`; and
        `latency/tflite_p50_ms` and `latency/tflite_p95_ms` at batch 1 on one thread.

    Raises:
        FileNotFoundError, ValueError: the file is missing or damaged, or gives NaN.
    """
    lite = LiteModel(path)
    metrics, notes = file_figures(lite), []
    name = next((name for name in ("test", "validation") if data.split(name) is not None), None)
    if name is None:
        notes.append("The .tflite file's quality was not measured: there is no test or validation split.")
    else:
        split = data.split(name)
        assert split is not None
        if not isinstance(measured, Measured) or name not in measured.outputs:
            again = one_pass(model, split)
            found_head = detect_head(model, data.task, data.example(EXAMPLE_ROWS), head)
            measured = Measured(outputs={name: again.outputs}, head=found_head, marks={name: again.mark})
        done = one_pass(model, split, run=_run(lite, model, data))
        metrics |= {f"tflite/{figure}": value for figure, value in told(parts_of(model, done, data, measured.head), data)[0].items()}
        one, other = (Measured(outputs={name: outputs}, head=measured.head, marks={name: mark})
                      for outputs, mark in ((done.outputs, done.mark), (measured.outputs[name], measured.marks[name])))  # fmt: skip
        metrics |= {f"tflite/{figure.removeprefix('kd/')}": value for figure, value in agreement_with(one, other).items()}
        if name != "test":
            notes.append("The figures under tflite/ are of the validation split: there is no test split.")
    if latency:
        metrics |= lite_latency(lite, data.example(1))
    return metrics, notes


def file_quality(lite: LiteModel, data: Data) -> dict[str, float]:
    """The quality of a file without the model it was made from, on the test split (else validation, else training), under `tflite/`.

    Outputs are taken as probabilities where rows of several columns are none below 0 and sum to 1, or a single column is within 0 and
    1; else as logits, or as the values of a regression.

    Args:
        lite: the file.
        data: rows with labels for a single output, or for several in the order or under the names of the file's.

    Raises:
        ValueError: the labels do not fit the outputs.
    """
    split = data.test or data.validation or data.train
    parts = [(lite(x), y, weights) for x, y, weights in split.batches(256)]
    tasks, found = keras.tree.flatten(data.task), {}
    names = sorted(data.task) if isinstance(data.task, dict) else [str(place) for place in range(len(tasks))]
    flat: list[Any] = [(keras.tree.flatten(outputs), keras.tree.flatten(y), weights) for outputs, y, weights in parts]
    if len(flat[0][0]) != len(tasks):
        raise ValueError(f"`data`: expected labels for the file's {len(flat[0][0])} outputs. Received: labels for {len(tasks)}.")
    for place, (name, task) in enumerate(zip(names, tasks, strict=True)):
        output, target = (np.concatenate([one[side][place] for one in flat]) for side in (0, 1))
        weights = [one[2] for one in flat if isinstance(one[2], np.ndarray)]
        weight = np.concatenate(weights) if weights else None
        for figure, value in quality(output, target, _head(output, task), task, weight).items():
            found[f"tflite/{figure}" if len(tasks) == 1 else f"tflite/{name}/{figure}"] = value
    return found


def _head(output: np.ndarray, task: str) -> str:
    if task == "regression":
        return "regression"
    inside = output.min() >= 0 and output.max() <= 1 + CLOSE
    if task in ("binary", "multilabel") and (task == "multilabel" or output.ndim == 1 or output.shape[-1] == 1):
        return "sigmoid" if inside else "sigmoid_logits"
    sums_to_one = np.abs(output.sum(axis=-1) - 1).max() <= CLOSE * output.shape[-1]
    return "softmax" if inside and sums_to_one else "logits"


def _run(lite: LiteModel, model: keras.Model, data: Data) -> Run:
    """The file in the place of the model: its outputs, with the masks that the model gives its own."""
    whole = runner(model)
    example = keras.tree.map_structure(tf.convert_to_tensor, data.example(1))
    flat = keras.tree.flatten(model(example, training=False))
    masked = any(getattr(output, "_keras_mask", None) is not None for output in flat)

    def run(inputs: Any) -> tuple[Any, Any]:
        outputs = keras.tree.map_structure(tf.convert_to_tensor, lite(keras.tree.map_structure(np.asarray, inputs)))
        return outputs, whole(inputs)[1] if masked else [None] * len(flat)

    return run
