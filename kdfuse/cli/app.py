"""The command line: one file a subcommand, nothing heavy loaded before a command runs."""

import sys
from collections.abc import Sequence

import typer

from kdfuse.cli.compare import compare
from kdfuse.cli.doctor import doctor
from kdfuse.cli.export import export
from kdfuse.cli.measure import measure
from kdfuse.cli.output import Failure, complain
from kdfuse.cli.sync import sync
from kdfuse.cli.ui import ui

app = typer.Typer(
    name="kdfuse",
    help="Make a trained Keras 3 model smaller, faster or better, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(compare)
app.command()(doctor)
app.command()(export)
app.command()(measure)
app.command()(sync)
app.command()(ui)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """Make a trained Keras 3 model smaller, faster or better, and prove it."""
    if version:
        from kdfuse import __version__

        typer.echo(f"kdfuse {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Ends with 0; 1 where something did not work; 2 where the call was wrong."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="kdfuse")
    except Failure as failure:
        complain(str(failure))
        sys.exit(failure.code)
    except (ValueError, FileNotFoundError) as error:
        complain(str(error))
        sys.exit(1)
    except Exception as error:
        complain(f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
