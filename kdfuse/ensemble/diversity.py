"""Diversity: how differently the members of an ensemble err."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np


def diversity(right: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    """Diversity of classifiers on the same rows (Kuncheva and Whitaker, 2003, "Measures of Diversity in Classifier Ensembles").

    Args:
        right: whether each member was right `[members, rows]`.
        decided: what each decided `[members, rows]`, class numbers or yes and no.

    Returns:
        `ensemble/disagreement`: the share of rows on which two members decide differently, and `ensemble/double_fault`: the share on
        which both are wrong, means over all pairs; `ensemble/oracle`: the share on which at least one member is right.
    """
    wrong = ~np.asarray(right, dtype=bool)
    pairs = list(itertools.combinations(range(len(wrong)), 2))
    return {
        "ensemble/disagreement": float(np.mean([np.mean(decided[one] != decided[other]) for one, other in pairs])),
        "ensemble/double_fault": float(np.mean([np.mean(wrong[one] & wrong[other]) for one, other in pairs])),
        "ensemble/oracle": float(1 - np.mean(wrong.all(axis=0))),
    }


def error_correlation(errors: np.ndarray) -> dict[str, float]:
    """How alike the errors of regressions are: the mean correlation over all pairs; empty where one has errors without variance.

    Args:
        errors: value minus target `[members, cells]`.
    """
    if (np.ptp(errors, axis=1) == 0).any():
        return {}
    table = np.corrcoef(errors)
    return {"ensemble/error_correlation": float(table[np.triu_indices(len(errors), 1)].mean())}


def disagreements(names: Sequence[str], decided: np.ndarray) -> list[dict[str, Any]]:
    """A row for each member: the share of rows on which it and each other one decide differently.

    Args:
        names: of the members.
        decided: `[members, rows]`.
    """
    return [
        {"model": name, **{other: float(np.mean(mine != theirs)) for other, theirs in zip(names, decided, strict=True)}}
        for name, mine in zip(names, decided, strict=True)
    ]
