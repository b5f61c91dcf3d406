"""`kdfuse ui`: MLflow's pages on the store that runs go to."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from kdfuse.cli.output import Failure


def ui(
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option(help="The address to listen on; the default is this machine alone.")] = "127.0.0.1",
) -> None:
    """Start MLflow's pages on the local store, until Ctrl-C."""
    from kdfuse.tracking.store import Destination, Store, shown

    destination = Destination.current()
    if destination.artifacts is None:
        typer.echo(f"Runs go to a server, which has its own pages: {shown(destination.uri)}")
        return
    if taken(host, port):
        raise Failure(f"`--port`: {port} is in use. Give another one: kdfuse ui --port {port + 1 if port < 65535 else port - 1}", 2)
    # Made here, where a lock guards it, and not by the server.
    store = Store(destination)
    typer.echo(f"http://{host}:{port}/#{page(store.newest())}  ({shown(destination.uri)}; Ctrl-C ends it)")
    code = subprocess.call(command(destination.uri, destination.artifacts, host, port), env=environment(destination.uri))
    # A signal, such as Ctrl-C, is how one leaves.
    if code > 0 and code != 130:
        raise Failure(f"MLflow's server ended with code {code}.")


def page(experiment: str | None) -> str:
    """The page of an experiment's training runs, or of all experiments; MLflow opens on traces of language models otherwise."""
    return f"/experiments{f'/{experiment}/runs' if experiment else ''}?workflowType=machine_learning"


def command(uri: str, artifacts: str, host: str, port: int) -> list[str]:
    """The call of MLflow's server, by the same Python, in its smallest form."""
    return [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--default-artifact-root", artifacts,
            "--host", host, "--port", str(port), "--workers", "1"]  # fmt: skip


def environment(uri: str) -> dict[str, str]:
    """The environment of MLflow's server: two processes instead of fourteen."""
    return {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def taken(host: str, port: int) -> bool:
    """Whether something listens at a port already."""
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0
