"""Parallel: several models side by side on the same inputs, and a combiner over what they give."""

from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.ensemble.combiners.combiner import Combiner
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.ensemble import Ensemble, beside
from kdfuse.ensemble.joined import join
from kdfuse.ensemble.members import Member, flat_heads, output_names, take
from kdfuse.ensemble.predictions import predictions
from kdfuse.settings import settings
from kdfuse.technique import Result

MOST_TOLD = 5


@settings
class Parallel(Ensemble):
    """Combine models into one that runs them all and combines their predictions, as one graph.

    The members' outputs are brought to probabilities first (of a regression they are taken as they are), so that one may give logits
    and another a softmax. Of several outputs each has a combiner of its own. A combiner that must learn does so on the validation
    split, from predictions made once. The ensemble gives probabilities, but for `LogitMean`.

    Attributes:
        combiner: `Mean()`, `Weighted()`, `GeometricMean()`, `LogitMean()`, `Median()`, `TrimmedMean()`, `Max()`, `HardVote()`, or a
            `Combiner` of your own.
    """

    combiner: Combiner = Mean()

    def __post_init__(self) -> None:
        check_combiner(self.combiner)

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        super().check(model, data)
        check_fit(type(self).__name__, self.combiner, data)
        members = take(model[:1], data)
        bound(self.combiner, members)
        self.combiner.weights_of(len(model))

    def apply(self, model: Sequence[keras.Model], data: Data) -> Result:
        return combined(take(model, data), data, self.combiner, beside(model))


def combined(members: Sequence[Member], data: Data, combiner: Combiner, baselines: dict[str, Any]) -> Result:
    """The result of joining members by a combiner, which is fitted on the validation split where it must be.

    Args:
        members: private copies, which go into the graph.
        data: for the inputs, and to fit on.
        combiner: for each output a copy of it is made.
        baselines: what to measure beside it.
    """
    each = bound(combiner, members)
    if combiner.fitted:
        assert data.validation is not None
        found = predictions(members, data, data.validation, combiner.of)
        each = [one.learn(part.values, part.targets, part.weights) for one, part in zip(each, found, strict=True)]
    model = join(members, data, lambda place: each[place], scale=combiner.of, name=type(combiner).__name__.lower())
    result = Result(model, baselines=baselines)
    names = [member.model.name for member in members]
    weights = {one.name if len(each) > 1 else "weight": one.weights_of(len(members)) for one in each}
    known = {label: shares for label, shares in weights.items() if shares is not None}
    if known:
        rows = enumerate(names)
        result.tables["weights"] = [{"model": f"{at + 1}: {name}", **{of: one[at] for of, one in known.items()}} for at, name in rows]
    if combiner.fitted:
        result.notes += [_fitted(label if len(each) > 1 else "", shares, names) for label, shares in known.items()]
    return result


def bound(combiner: Combiner, members: Sequence[Member]) -> list[Combiner]:
    """A combiner for each output of the members.

    Raises:
        ValueError: it does not combine such predictions.
    """
    return [combiner.bound(head, name) for head, name in zip(flat_heads(members[0]), output_names(members[0]), strict=True)]


def _fitted(label: str, shares: Sequence[float], names: Sequence[str]) -> str:
    """A sentence on fitted weights, the largest first."""
    used = sorted([(share, name) for share, name in zip(shares, names, strict=True) if share > 0], key=lambda pair: -pair[0])
    said = ", ".join(f"{name} {share:.3g}" for share, name in used[:MOST_TOLD])
    left = f" and {len(used) - MOST_TOLD} more" if len(used) > MOST_TOLD else ""
    of = f" of {label!r}" if label else ""
    return f"Weights{of} fitted on the validation split; {len(used)} of {len(names)} members have one: {said}{left}."


def check_combiner(combiner: Any) -> None:
    """Raise unless a field has a combiner."""
    if not isinstance(combiner, Combiner):
        raise TypeError(f"`combiner`: expected a kdfuse combiner, such as Mean() or Weighted(). Received: {combiner!r}.")


def check_fit(owner: str, combiner: Combiner, data: Data) -> None:
    """Raise where a combiner has to be fitted and there are no rows for it."""
    if combiner.fitted and data.validation is None:
        raise ValueError(
            f"`data` of {owner}: {type(combiner).__name__} is fitted on the validation split. Received: none. Give "
            "kdfuse.Data(..., validation=0.1), or weights of your own."
        )
