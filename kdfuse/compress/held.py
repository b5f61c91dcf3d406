"""What a training must leave as it is: the zeros of sparse kernels, and whole kernels."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

NO_KERNELS = ("bias", "gamma", "beta", "alpha", "mean", "variance", "moving_mean", "moving_variance")
FEWEST_ZEROS = 0.01
"""The share of zeros from which a kernel counts as sparse."""


def is_kernel(variable: Any) -> bool:
    """Whether a weight is a kernel: two axes or more, and no bias (attention has biases of two axes) or scale."""
    return len(variable.shape) > 1 and variable.name.partition(":")[0].rpartition("/")[2] not in NO_KERNELS


def zeros_of(variables: Iterable[Any]) -> list[tuple[Any, np.ndarray]]:
    """The sparse ones among kernels, with a mask of what is not zero.

    A kernel of zeros alone is not sparse: it was begun so.
    """
    found = []
    for variable in variables:
        if is_kernel(variable):
            mask = np.asarray(variable.numpy()) != 0
            if FEWEST_ZEROS <= 1.0 - mask.mean() < 1.0:
                found.append((variable, mask))
    return found


class Masked(keras.constraints.Constraint):
    """What is zero in the mask stays zero; a constraint of the weight's own comes before."""

    def __init__(self, mask: np.ndarray, own: Any = None) -> None:
        self.mask, self.own = mask, own

    def __call__(self, w: Any) -> Any:
        w = w if self.own is None else self.own(w)
        return keras.ops.multiply(w, keras.ops.cast(self.mask, w.dtype))


class Fixed(keras.constraints.Constraint):
    """The weight stays at its value."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __call__(self, w: Any) -> Any:
        return keras.ops.convert_to_tensor(self.value, w.dtype)


@contextlib.contextmanager
def constrained(constraints: Iterable[tuple[Any, keras.constraints.Constraint]]) -> Iterator[None]:
    """Inside, the optimizer puts these constraints on the variables after every step."""
    before = []
    try:
        for variable, constraint in constraints:
            before.append((variable, variable.constraint))
            variable.constraint = constraint
        yield
    finally:
        for variable, own in reversed(before):
            variable.constraint = own


@contextlib.contextmanager
def zeros_held(model: keras.Model, notes: list[str]) -> Iterator[None]:
    """Inside, training leaves the zeros of sparse kernels; a note tells how many."""
    found = zeros_of(model.trainable_weights)
    told = f"Zeros stay zero in {len(found)} kernels that had at least {FEWEST_ZEROS:.0%} of them."
    if found and told not in notes:
        notes.append(told)
    with constrained((weight, Masked(mask, weight.constraint)) for weight, mask in found):
        yield
