"""`kdfuse measure MODEL.keras` or `MODEL.tflite`: how large, how fast and how good is it?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdfuse.cli.output import Failure, show

if TYPE_CHECKING:
    from kdfuse.data import Data


def measure(
    model: Annotated[Path, typer.Argument(help="A .keras file, loaded in safe mode, or a .tflite file.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Also measure quality: a data set's name (digits, mnist, …), or an .npz file with x_test and y_test (or x and y)."
        ),
    ] = None,
    latency: Annotated[bool, typer.Option(help="Also measure how long one row takes.")] = True,
) -> None:
    """Show a model's parameters, bytes, multiply-accumulates and latency; with --data also its quality.

    Of a .tflite file: bytes, gzip, the share of integer operations, and the latency of one row on one thread.
    """
    if not model.is_file():
        raise Failure(f"`MODEL`: there is no file {model}.", 2)
    from kdfuse import runtime

    runtime.tensorflow()
    if model.suffix == ".tflite":
        _shown(_file(model, data, latency), model.name)
        return
    from kdfuse.export.keras_file import load_model

    try:
        loaded = load_model(model)
    except ValueError as error:
        raise Failure(str(error), 2) from error
    metrics = _with_data(loaded, data, latency) if data is not None else _alone(loaded, latency)
    _shown(metrics, f"{model.name}: {loaded.name}")


def _shown(metrics: dict[str, Any], title: str) -> None:
    from kdfuse.report import format_figure

    rows = [[name, format_figure(name, value)] for name, value in metrics.items() if value is not None]
    show(["figure", "value"], rows, title=title)


def _file(path: Path, data: str | None, latency: bool) -> dict[str, Any]:
    import numpy as np

    from kdfuse.export.lite_model import LiteModel
    from kdfuse.measure.lite import file_figures, file_quality, lite_latency

    try:
        lite = LiteModel(path)
    except ValueError as error:
        raise Failure(str(error), 2) from error
    found: dict[str, Any] = dict(file_figures(lite))
    rows = [np.zeros([max(1, size) for size in tensor.shape], tensor.dtype) for tensor in lite.inputs]
    example: Any = rows
    if data is not None:
        loaded = data_of(data)
        found = {**file_quality(lite, loaded), **found}
        example = loaded.example(1)
    return {**found, **(lite_latency(lite, example) if latency else {})}


def _alone(model: Any, latency: bool) -> dict[str, Any]:
    from kdfuse.graph.macs import count_macs
    from kdfuse.measure.size import size

    found: dict[str, Any] = {**size(model), "cost/macs": count_macs(model)}
    example = _example(model)
    if latency and example is not None:
        from kdfuse.measure.latency import latency as timed

        found.update(timed(model, example))
    return found


def _example(model: Any) -> Any:
    """One row of zeros (or empty texts) for what the model declares as its inputs; None where a size is open."""
    import keras
    import numpy as np

    declared = keras.tree.flatten(getattr(model, "inputs", None) or [])
    if not declared or any(size is None for one in declared for size in one.shape[1:]):
        typer.echo("The model does not say its input's shape; its latency is left out. Give --data.", err=True)
        return None

    def row(tensor: Any) -> Any:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        return np.zeros((1, *tensor.shape[1:]), "U1" if dtype == "string" else dtype)

    inside = getattr(model, "_functional", None) or model  # of a Sequential
    return keras.tree.map_structure(row, getattr(inside, "_inputs_struct", declared))


def _with_data(model: Any, name: str, latency: bool) -> dict[str, Any]:
    from kdfuse.measure.measure import measure as measured

    return dict(measured(model, data_of(name), latency=latency).metrics)


def data_of(name: str) -> "Data":
    """The data set of this name, or that in an .npz file."""
    if name.endswith(".npz") or Path(name).is_file():
        return _from_file(Path(name))
    from kdfuse.datasets import load

    return load(name)


def _from_file(path: Path) -> "Data":
    import numpy as np

    from kdfuse.data import Data

    if not path.is_file():
        raise Failure(f"`--data`: there is no file {path}.", 2)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:
        raise Failure(f"`--data`: {path} is not a readable .npz file: {error}", 2) from error
    for x, y in (("x_test", "y_test"), ("x", "y")):
        if x in arrays and y in arrays:
            # The labels' range is judged by the training split, which a file of test rows alone does not have.
            train = (arrays.get("x_train", arrays[x]), arrays.get("y_train", arrays[y]))
            return Data(train=train, test=(arrays[x], arrays[y]), name=path.stem)
    raise Failure(f"`--data`: expected the arrays x_test and y_test (or x and y) in {path}. Received: {sorted(arrays)}.", 2)
