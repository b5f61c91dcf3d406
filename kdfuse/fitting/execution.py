"""How much TensorFlow does at a time: steps before it comes back to Python, rows of a batch that is only measured."""

from collections.abc import Iterable

import keras

from kdfuse.splits import ArraySplit, Split

MOST = 32
ROWS, BYTES = 256, 4 * 2**20
"""The most rows of a batch that is measured, and the most bytes of its inputs."""


def steps_together(asked: int | str, steps: int | None, callbacks: Iterable[keras.callbacks.Callback]) -> int:
    """The `steps_per_execution` to compile with.

    All epochs of a run are one stream of batches, so an execution must not reach into the next epoch: it has to be a
    divisor of the steps of an epoch.

    Args:
        asked: a number of steps, or `auto` for the largest divisor of `steps` up to `MOST`.
        steps: of an epoch; None for a stream, which runs step by step.
        callbacks: the caller's; one that hears of every step makes `auto` run step by step.

    Raises:
        ValueError: the number asked for does not divide the steps of an epoch.
    """
    if asked != "auto":
        if isinstance(asked, str) or (steps or 1) % asked:
            known = f"a divisor of the {steps} steps of an epoch" if steps else "1, as the steps of a stream are not known"
            raise ValueError(f"`steps_per_execution`: expected {known}. Received: {asked!r}. Use 'auto'.")
        return int(asked)
    if steps is None or any(_hears_steps(callback) for callback in callbacks):
        return 1
    return max(divisor for divisor in range(1, MOST + 1) if steps % divisor == 0)


def rows_measured(model: keras.Model, split: Split, batch_size: int, means: bool = True) -> int:
    """The batch size in which a split is measured: that of training, or more where the rows are small. The figures are the same.

    Args:
        model: one with a fixed batch size keeps it.
        split: what is measured.
        batch_size: of training.
        means: whether the losses are means over rows. Others may depend on the batch, and keep its size.
    """
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    if not means or not isinstance(split, ArraySplit) or any(tensor.shape and tensor.shape[0] is not None for tensor in inputs):
        return batch_size
    size = sum(array.nbytes for array in keras.tree.flatten(split.head(1)[0]))
    return max(batch_size, min(ROWS, BYTES // max(size, 1)))


def _hears_steps(callback: keras.callbacks.Callback) -> bool:
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    return any(getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook) for hook in hooks)
