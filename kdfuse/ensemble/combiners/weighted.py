"""The weighted mean of the members, with weights that are given, or fitted on validation rows."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner, normalised_weights
from kdfuse.settings import choose

WAYS = ("greedy", "convex")
ROUNDS = 50


@keras.saving.register_keras_serializable("kdfuse")
class Weighted(Combiner):
    """A weighted mean of probabilities, or of the values of a regression. The weights are at least 0 and sum to one.

    Args:
        weights: one for each member, brought to a sum of one; None: fitted on the validation split, by log loss (regression: squared
            error). Given, `fit` and `rounds` stay as they are.
        fit: how: `"greedy"` selects members one by one, the same one again where that helps (Caruana et al., 2004, "Ensemble Selection
            from Libraries of Models"), `"convex"` minimises the loss over all weights.
        rounds: of the greedy selection alone, at least 1.
        head: what the predictions are.

    Raises:
        ValueError: weights that are negative or all 0; another way to fit; fewer rounds than 1; a way to fit, or rounds, without effect.
    """

    symmetric = False

    def __init__(self, weights: Sequence[float] | None = None, fit: str = WAYS[0], rounds: int = ROUNDS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shares = normalised_weights("weights", weights)
        self.way = choose("fit", fit, WAYS)
        if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
            raise ValueError(f"`rounds`: expected a number of rounds, at least 1. Received: {rounds!r}.")
        self.rounds = rounds
        if self.shares is not None and (fit, rounds) != (WAYS[0], ROUNDS):
            changed = f"fit={fit!r}" if fit != WAYS[0] else f"rounds={rounds!r}"
            raise ValueError(
                f"`weights`: expected None with {changed}, which says how they are fitted. Received: {weights!r}. Give one or the other."
            )
        if fit != WAYS[0] and rounds != ROUNDS:
            raise ValueError(f"`rounds`: only fit='greedy' has them. Received: rounds={rounds!r}, fit={fit!r}. Leave them out.")

    @property
    def fitted(self) -> bool:
        return self.shares is None

    def combine(self, stacked: Any) -> Any:
        if self.shares is None:
            raise ValueError("`weights`: Weighted has none yet. Give them, or use it in a technique that fits them: Parallel(Weighted()).")
        count = stacked.shape[-1]
        return ops.sum(stacked * ops.convert_to_tensor(self.weights_of(count), dtype="float32"), axis=-1)

    def learn(self, members: np.ndarray, targets: np.ndarray, sample_weight: Any = None) -> "Weighted":
        from kdfuse.ensemble.combiners.fitting import convex, greedy, objective  # here: it loads SciPy

        loss = objective(members, targets, self.head, sample_weight)
        found = greedy(loss, len(members), self.rounds) if self.way == "greedy" else convex(loss, len(members))
        return self.bound(self.head, self.name, weights=found.tolist(), fit=WAYS[0], rounds=ROUNDS)

    def weights_of(self, count: int) -> list[float] | None:
        if self.shares is not None and len(self.shares) != count:
            raise ValueError(f"`weights`: expected one for each of {count} members. Received: {len(self.shares)}.")
        return None if self.shares is None else list(self.shares)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": self.shares, "fit": self.way, "rounds": self.rounds}
