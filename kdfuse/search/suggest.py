"""Suggest: a value of a space's setting, asked of Optuna."""

from typing import Any

import optuna

from kdfuse.search.space import Float, Int, Space


def suggest(trial: optuna.Trial, name: str, space: Space) -> Any:
    """What Optuna suggests for a setting.

    Args:
        trial: of a study.
        name: of the setting.
        space: choices, an `Int`, a `Float`, or a distribution with quantiles (`ppf`), as those of `scipy.stats` have.

    Raises:
        TypeError: another part of a space.
    """
    part = space.parts[name]
    if isinstance(part, Int):
        return trial.suggest_int(name, int(part.low), int(part.high), log=part.log, step=1 if part.log else part.step)
    if isinstance(part, Float):
        return trial.suggest_float(name, float(part.low), float(part.high), log=part.log)
    if isinstance(part, tuple):
        labels = space.labels(name)
        return labels[trial.suggest_categorical(name, tuple(labels))]
    if not hasattr(part, "ppf"):
        kind = type(part).__name__
        raise TypeError(f"`space`: Optuna has no form for {kind} of {name!r}. Give a list, a kdfuse.Int or a kdfuse.Float.")
    value = part.ppf(trial.suggest_float(name, 0.0, 1.0))
    if hasattr(part, "pmf"):  # of integers, whose quantiles are floats, that of 0 one below the least of them
        return max(int(value), int(part.support()[0]))
    return value.item() if hasattr(value, "item") else value
