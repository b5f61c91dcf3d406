"""The Pareto front: the rows that no other row beats in one figure without losing in another."""

import math
from collections.abc import Sequence

from kdfuse.tracking.compare.columns import Values, meaning, quality, resolve


def goals(rows: Sequence[Values], asked: Sequence[str] | None = None) -> list[str]:
    """The figures of the front, in full: those asked for, else quality on validation, bytes of the file, and MACs.

    Raises:
        ValueError: one is no figure of these rows, or is of the test split.
    """
    if asked is None:
        judged = quality(rows)
        costs = [name for name in ("bytes", "cost/macs") if any(name in row for row in rows)]
        return [judged, *costs] if judged is not None and costs else []
    names = [asked] if isinstance(asked, str) else list(asked)
    found = [resolve(name, rows, "front") for name in names]
    for said, name in zip(names, found, strict=True):
        if meaning(name) is None:
            raise ValueError(f"`front`: expected figures, such as accuracy and macs. Received: {said!r}, which is a setting.")
        if "test/" in name or name.startswith("tflite/"):
            raise ValueError(f"`front`: the test split chooses nothing; it is only told. Received: {said!r}. Use that of validation.")
    if len(set(found)) < 2:
        raise ValueError(f"`front`: expected at least two figures, such as accuracy and macs. Received: front={list(names)!r}.")
    return found


def front(rows: Sequence[Values], names: Sequence[str]) -> list[int]:
    """The places of the rows on the front, in their order; of equal rows all. A row without one of the figures is not on it."""
    if not names:
        return []
    signs = [1.0 if (known := meaning(name)) is not None and known.better == "higher" else -1.0 for name in names]
    points = {
        place: tuple(sign * float(row[name]) for name, sign in zip(names, signs, strict=True))
        for place, row in enumerate(rows)
        if all(isinstance(row.get(name), int | float) and math.isfinite(row[name]) for name in names)
    }

    def beaten(own: tuple[float, ...]) -> bool:
        return any(other != own and all(a >= b for a, b in zip(other, own, strict=True)) for other in points.values())

    return [place for place, own in points.items() if not beaten(own)]
