"""`kdfuse export MODEL.keras OUT`: write a model for where it will run, checked after writing."""

from pathlib import Path
from typing import Annotated

import typer

from kdfuse.cli.measure import data_of
from kdfuse.cli.output import Failure


def export(
    model: Annotated[Path, typer.Argument(help="A .keras file. It is loaded in safe mode.")],
    out: Annotated[Path, typer.Argument(help="model.tflite, model.onnx, or a folder for a SavedModel.")],
    quantize: Annotated[str | None, typer.Option(help="For .tflite: dynamic, float16 or int8 (which needs --data).")] = None,
    sparse: Annotated[bool, typer.Option(help="For .tflite: store kernels of mostly zeros without their zeros.")] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Rows to find int8 ranges with and to check on: a data set's name (digits, mnist, …), or an .npz file."),
    ] = None,
) -> None:
    """Write a model as LiteRT, ONNX or SavedModel, read the file back, and compare it with the model."""
    if not model.is_file():
        raise Failure(f"`MODEL`: there is no file {model}.", 2)
    from kdfuse import runtime

    runtime.tensorflow()
    from kdfuse.export.export import exported
    from kdfuse.export.keras_file import load_model

    try:
        path, difference = exported(load_model(model), out, quantize=quantize, sparse=sparse, data=None if data is None else data_of(data))
    except (ValueError, ImportError) as error:
        raise Failure(str(error), 2) from error
    agreement = "" if difference.agreement is None else f", agreement {difference.agreement:.1%}"
    what = "on random inputs" if data is None else f"on rows of {data}"
    size = sum(part.stat().st_size for part in path.rglob("*") if part.is_file()) if path.is_dir() else path.stat().st_size
    typer.echo(f"{path}: {size:,} bytes; largest difference {difference.largest:.2g}{agreement}, {what}.")
