"""`kdfuse doctor`: is everything there?"""

import os

import typer

from kdfuse.cli.output import show


def doctor() -> None:
    """Show versions, devices, where runs go, and what waits to be sent. Ends with 1 where something is wrong."""
    from kdfuse.home import home
    from kdfuse.tracking.environment import versions
    from kdfuse.tracking.store import Destination, shown

    show(["package", "version"], [[name, version] for name, version in versions().items()])
    troubles: list[str] = []
    show(["device", ""], _devices(troubles))
    destination = Destination.current()
    rows = [
        ["KDFUSE_HOME", str(home())],
        ["KDFUSE_DATA", _data()],
        ["store", shown(destination.uri)],
        ["experiment", destination.experiment],
        ["tracking", "off (KDFUSE_TRACKING)" if os.environ.get("KDFUSE_TRACKING", "").lower() in ("off", "0", "false", "no") else "on"],
        ["runs", _runs(destination.uri, troubles)],
        ["journals", _journals()],
    ]
    show(["tracking", ""], rows)
    for trouble in troubles:
        typer.echo(f"! {trouble}")
    if troubles:
        raise typer.Exit(1)
    typer.echo("All is well.")


def _devices(troubles: list[str]) -> list[list[str]]:
    try:
        from kdfuse.runtime import devices

        return [[device.name, device.detail] for device in devices()]
    except Exception as error:
        troubles.append(f"TensorFlow does not load: {type(error).__name__}: {error}")
        return [["none", "TensorFlow does not load"]]


def _data() -> str:
    folder = os.environ.get("KDFUSE_DATA")
    if not folder:
        return "not set: data comes from packages, the Keras cache or a download"
    return folder if os.path.isdir(folder) else f"{folder} (there is no such folder)"


def _runs(uri: str, troubles: list[str]) -> str:
    from kdfuse.tracking.store import count_runs, shown

    try:
        count = count_runs(uri)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        troubles.append(f"The store {shown(uri)} does not answer: {type(error).__name__}: {shown(reason)}")
        return "unknown"
    return "none yet: the store is made with the first run" if count is None else str(count)


def _journals() -> str:
    from kdfuse.tracking.offline import pending

    going_on, left = pending()
    parts = [f"{left} to send: run `kdfuse sync`" if left else "none to send"]
    if going_on:
        parts.append(f"{going_on} of runs that are going on")
    return "; ".join(parts)
