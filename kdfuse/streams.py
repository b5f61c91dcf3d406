"""Streams: a split that is read batch by batch, from tf.data or a PyDataset."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from kdfuse import arrays
from kdfuse.arrays import Structure, leaves, map_leaves
from kdfuse.splits import PARTS, ArraySplit, Batch, Split, as_batch, join


class StreamSplit(Split):
    """Batches of a `tf.data.Dataset` or a `keras.utils.PyDataset`, trained on as they come.

    Only the first batch is checked when it is made. `targets`, `weights` and `rows` read the source once and keep the labels.

    Args:
        source: gives batches `(x, y)` or `(x, y, sample_weight)`, and ends.
        name: how errors name the split.

    Raises:
        ValueError: it does not end, gives no batch, is not batched, or its first batch is not right.
    """

    indexable = False

    def __init__(self, source: Any, *, name: str = "data") -> None:
        self.source = source
        self._name = name
        self._keras = not hasattr(source, "element_spec")
        if self._length() == float("inf"):
            raise ValueError(
                f"`{name}`: expected a stream that ends. Received: an endless {type(source).__name__}. "
                "Leave out `.repeat()` or add `.take(n)`."
            )
        self._check_spec()
        batch = next(self.batches(1), None)
        if batch is None:
            raise ValueError(
                f"`{name}`: expected at least one batch. Received: an empty {type(source).__name__}. Leave the split out (None)."
            )
        self.first = ArraySplit(*batch, name=name)

    def __repr__(self) -> str:
        return f"StreamSplit({type(self.source).__name__})"

    @property
    def rows(self) -> int | None:
        return len(next(leaves(self._labels[0]))[1]) if "_labels" in self.__dict__ else None

    @property
    def input_shape(self) -> Structure:
        """The shapes of the inputs without the batch; None for axes that the source leaves open."""
        shapes = map_leaves(lambda leaf: leaf.shape[1:], self.first.x)
        if self._keras:
            return shapes
        return map_leaves(_open_shape, self.first.x, self.source.element_spec[0])

    def steps(self, batch_size: int) -> int | None:
        """Batches in the source, whatever `batch_size` is; None where it does not say."""
        length = self._length()
        return None if length is None else int(length)

    def dataset(self, batch_size: int, *, seed: int | None = None, start: int = 0, epochs: int = 1) -> Any:
        """The source itself: its batches, order and shuffling are its own."""
        return self.source

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """One pass over the source's own batches."""
        elements = (self.source[index] for index in range(int(self._length() or 0))) if self._keras else iter(self.source)
        for element in elements:
            if not isinstance(element, list | tuple) or len(element) not in (2, 3):
                raise ValueError(
                    f"`{self._name}`: expected batches (x, y) or (x, y, sample_weight). Received: {type(element).__name__}. "
                    "Labels are needed: `.map` the stream to pairs."
                )
            named = zip(PARTS[: len(element)], element, strict=True)
            yield as_batch(tuple(arrays.to_arrays(value, f"`{self._name}` {part}", text=part == "x") for part, value in named))

    def in_order(self, names: Sequence[str]) -> "StreamSplit":
        made = copy.copy(self)
        made.__dict__.pop("_labels", None)
        made.first = self.first.in_order(names)
        made.source = mapped(self.source, lambda x, *rest: (x, *(arrays.in_order(part, names) for part in rest)))
        return made

    def targets(self) -> Structure:
        """The labels of one pass. A source that shuffles gives another order to each pass: use `batches` to pair x with y."""
        return self._labels[0]

    def weights(self) -> Structure | None:
        return self._labels[1]

    @cached_property
    def _labels(self) -> tuple[Structure, Structure | None]:
        taken: list[Batch] = []
        for batch in self.batches(1):
            arrays.check_finite(batch[1], f"`{self._name}` y")
            taken.append((np.zeros(0), batch[1], batch[2]))
        return join(taken)[1:]

    def _length(self) -> float | None:
        if self._keras:
            count = self.source.num_batches
            return float("inf") if count is None else float(count)
        cardinality = int(self.source.cardinality())
        return {-1: float("inf"), -2: None}.get(cardinality, float(cardinality))

    def _check_spec(self) -> None:
        specs = [] if self._keras else [spec for _, spec in leaves(self.source.element_spec)]
        shapes = [tuple(spec.shape) for spec in specs if getattr(getattr(spec, "shape", None), "rank", None) is not None]
        if any(not shape for shape in shapes) or len({shape[0] for shape in shapes if shape[0] is not None}) > 1:
            raise ValueError(
                f"`{self._name}`: expected a batched tf.data.Dataset. Received: elements of shapes {shapes}. "
                "Add `.batch(32)` to the dataset."
            )


def mapped(source: Any, function: Callable[..., tuple[Any, ...]]) -> Any:
    """A `tf.data.Dataset` or `keras.utils.PyDataset` whose batches are `function(x, y)` or `function(x, y, sample_weight)`.

    `function` gets tensors of a dataset while its graph is traced, and from a PyDataset what that gives.
    """
    if hasattr(source, "element_spec"):
        import tensorflow as tf

        return source.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    import keras

    class Mapped(keras.utils.PyDataset):
        @property
        def num_batches(self) -> Any:
            return source.num_batches

        def __getitem__(self, index: int) -> tuple[Any, ...]:
            return function(*source[index])

        def on_epoch_begin(self) -> None:
            source.on_epoch_begin()

        def on_epoch_end(self) -> None:
            source.on_epoch_end()

    return Mapped(source.workers, source.use_multiprocessing, source.max_queue_size)


def _open_shape(array: np.ndarray, spec: Any) -> tuple[int | None, ...]:
    return array.shape[1:] if spec.shape.rank is None else tuple(spec.shape)[1:]
