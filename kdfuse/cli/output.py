"""What the subcommands print with."""

from typing import Any


class Failure(Exception):
    """Ends a command with one clear line.

    Attributes:
        code: the exit code: 1 something did not work, 2 the call was wrong.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def complain(message: str) -> None:
    """One line on standard error."""
    import typer

    typer.echo("kdfuse: " + " ".join(message.split()), err=True)


def show(columns: list[str], rows: list[list[Any]], title: str | None = None) -> None:
    """A table of texts, shown as they are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=any(columns))
    for row in rows:
        table.add_row(*(Text(str(cell), overflow="fold") for cell in row))
    Console().print(table)
