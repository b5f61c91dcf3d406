"""What temperatures do to the predictions of members: log loss and calibration error before and after."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from kdfuse.ensemble.predictions import Predicted
from kdfuse.measure.quality import quality

FIGURES = {"log loss": "log_loss", "calibration error": "ece"}


def heated(part: Predicted, temperatures: Sequence[float]) -> Predicted:
    """The probabilities of logits, divided by a temperature for each member."""
    scaled = part.values.astype("float64") / np.reshape(temperatures, (-1,) + (1,) * (part.values.ndim - 1))
    if part.head == "sigmoid":
        return part._replace(values=special.expit(scaled))
    return part._replace(values=special.softmax(scaled, axis=-1))


def before_and_after(
    names: Sequence[str],
    logits: Sequence[Predicted],
    temperatures: Sequence[Sequence[float]],
    split: str,
    answered: np.ndarray | None = None,
    whole: str = "",
) -> list[dict[str, Any]]:
    """How well calibrated the members are at temperature 1, and at their temperatures, on the rows of a split.

    Args:
        names: of the members.
        logits: an entry for each output.
        temperatures: for each member that of each output.
        split: whose rows they are.
        answered: the number of the member that answers each row `[rows]`, to tell the whole as well; None without.
        whole: what that is called.

    Returns:
        A row for each member and output: `temperature`, and `log loss` and `calibration error`, each `before` and `after`.
    """
    rows: list[dict[str, Any]] = []
    ends = [(f"{place + 1}: {name}", place) for place, name in enumerate(names)]
    for at, part in enumerate(logits):
        states = {"before": heated(part, [1.0] * len(names)), "after": heated(part, [one[at] for one in temperatures])}
        found: list[tuple[str, dict[str, Any], dict[str, np.ndarray]]] = [
            (name, {"temperature": float(temperatures[place][at])}, {when: one.values[place] for when, one in states.items()})
            for name, place in ends
        ]
        if answered is not None:
            found.append((whole, {}, {when: one.values[answered, np.arange(len(answered))] for when, one in states.items()}))
        for name, own, values in found:
            told = {when: quality(one, part.targets, part.head, part.task, part.weights) for when, one in values.items()}
            figures = {f"{text} {when}": told[when][figure] for text, figure in FIGURES.items() for when in states}
            rows.append({"model": name, **({"output": part.label} if part.label else {}), "split": split, **own, **figures})
    return rows
