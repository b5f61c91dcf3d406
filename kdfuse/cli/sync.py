"""`kdfuse sync`: send what MLflow has not received."""

from typing import Annotated

import typer


def sync(uri: Annotated[str | None, typer.Option(help="Send there instead of where each run was meant to go.")] = None) -> None:
    """Send the runs that MLflow has not received in full, with their original times. Doing it twice changes nothing."""
    from kdfuse.tracking.offline import Outcome
    from kdfuse.tracking.offline import sync as send

    words = {"sent": "sent", "open": "going on, left alone", "waits": "waits for its group", "failed": "not sent"}

    def tell(outcome: Outcome) -> None:
        typer.echo(
            f"{outcome.name}: {words[outcome.state]}" + (f": {outcome.detail}" if outcome.detail else ""), err=outcome.state == "failed"
        )

    outcomes = send(uri, tell=tell)
    sent = sum(outcome.state == "sent" for outcome in outcomes)
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    typer.echo(f"{sent} of {len(outcomes)} runs sent." if outcomes else "Nothing waits to be sent.")
    if failed:
        raise typer.Exit(1)
