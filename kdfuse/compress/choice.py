"""Choose the units that go: by scores, a share to keep, and what each layer must keep."""

from collections.abc import Iterator, Sequence

import numpy as np

from kdfuse.graph.families import Family

Name = tuple[tuple[str, ...], int]
Sizes = dict[Name, int]


def choose_units(
    found: Sequence[Family], scores: np.ndarray, keep: float, *, scope: str = "layer", round_to: int = 1, sizes: Sizes | None = None
) -> list[int]:
    """The channels to remove, those with the lowest scores first.

    A family of channels keeps at least one, and a multiple of `round_to` where it has as many. Families that are tied keep equally
    many. A family with a channel whose score is NaN stays whole.

    Args:
        found: families of a model's channels.
        scores: by root.
        keep: share to keep, in (0, 1].
        scope: `layer` keeps this share of each family, `global` of all families together.
        round_to: at least 1.
        sizes: how many channels the families had of which `keep` is the share; by default those they have.

    Returns:
        Roots.
    """
    names = list(name_families(found))
    known = [place for place, family in enumerate(found) if not np.isnan(scores[list(family.roots)]).any()]
    before = {place: (sizes or {}).get(names[place], len(found[place].roots)) for place in known}
    bar = None
    if scope == "global":
        every = np.sort(np.concatenate([scores[list(found[place].roots)] for place in known] or [np.zeros(0)]))
        count = len(every) - max(1, round(keep * sum(before.values())))
        bar = float(every[count - 1]) if count > 0 else -np.inf
    wanted: dict[int, list[float]] = {}
    for place in known:
        above = keep * before[place] if bar is None else float((scores[list(found[place].roots)] > bar).sum())
        wanted.setdefault(found[place].tied, []).append(above)
    gone: list[int] = []
    for place in known:
        roots = np.array(found[place].roots)
        count = rounded(float(np.mean(wanted[found[place].tied])), len(roots), round_to)
        gone += roots[np.argsort(scores[roots], kind="stable")[: len(roots) - count]].tolist()
    return gone


def name_families(found: Sequence[Family]) -> Iterator[Name]:
    """A name for each family that it also has in a model with fewer channels: its layers, and a number where several have the same."""
    seen: dict[tuple[str, ...], int] = {}
    for family in found:
        seen[family.layers] = seen.get(family.layers, 0) + 1
        yield family.layers, seen[family.layers]


def rounded(wanted: float, available: int, round_to: int = 1) -> int:
    """The nearest multiple of `round_to` to `wanted`, at least one multiple, at most what is available."""
    multiple = max(1, int(wanted / round_to + 0.5))
    return min(available, multiple * round_to)
