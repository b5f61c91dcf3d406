"""Targets of shrinking: the share of units to keep for a number of MACs, parameters or milliseconds."""

from collections.abc import Callable

STEPS = {"parameters": 14, "macs": 10, "latency_ms": 7}
"""Halvings of the interval of shares: latency is noisy and dear, parameters are neither."""


def find_keep(name: str, value_of: Callable[[float], float], target: float) -> float:
    """The largest share of units whose value is at most `target`, by bisection.

    Args:
        name: `parameters`, `macs` or `latency_ms`.
        value_of: the value of the model at a share, which grows with it.
        target: in the unit of the value.

    Raises:
        ValueError: not even the smallest model reaches it.
    """
    low, high = 0.0, 1.0
    smallest = value_of(low)
    if smallest > target:
        raise ValueError(
            f"`{name}`: expected at least {smallest:,.4g}, which the model has with one unit in each layer that may shrink. "
            f"Received: {target:,.4g}. Give a larger target, protect fewer layers, or start from a smaller model."
        )
    if value_of(high) <= target:
        return high
    for _ in range(STEPS[name]):
        middle = (low + high) / 2
        if value_of(middle) <= target:
            low = middle
        else:
            high = middle
    return low


def absolute(name: str, target: float, before: float) -> float:
    """A target in the unit of the value: a float up to 1 is a share of what the model had before.

    Raises:
        ValueError: the model is there already.
    """
    wanted = target * before if name != "latency_ms" and isinstance(target, float) and target <= 1 else float(target)
    if wanted >= before:
        raise ValueError(f"`{name}`: expected less than the model has, {before:,.4g}. Received: {name}={target!r}. Give a smaller target.")
    return wanted
