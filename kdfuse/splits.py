"""Splits: one part of the data (train, validation, test); what all have in common, and rows in arrays."""

import abc
import copy
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdfuse import arrays
from kdfuse.arrays import Structure, leaves, map_leaves

if TYPE_CHECKING:
    import tensorflow as tf

PARTS = ("x", "y", "sample_weight")
Batch = tuple[Structure, Structure, Structure | None]


class Split(abc.ABC):
    """What arrays and streams have in common.

    Attributes:
        indexable: whether rows can be had by number, in any order.
    """

    indexable: ClassVar[bool]

    @property
    @abc.abstractmethod
    def rows(self) -> int | None:
        """How many rows there are, None where a stream has not been read yet."""

    @abc.abstractmethod
    def steps(self, batch_size: int) -> int | None:
        """Batches in one epoch; None where it is not known."""

    @abc.abstractmethod
    def dataset(self, batch_size: int, *, seed: int | None = None, start: int = 0, epochs: int = 1) -> Any:
        """What `keras.Model.fit` takes: batches `(x, y)` or `(x, y, sample_weight)`."""

    @abc.abstractmethod
    def batches(self, batch_size: int) -> Iterator[Batch]:
        """One pass in NumPy batches `(x, y, sample_weight or None)`: the way to keep x and y of a shuffled stream together."""

    def map_inputs(self, function: Callable[[Structure], Structure], x: Structure) -> Structure:
        """Apply `function` to the inputs in the x of a batch of `dataset`, where a technique's split carries more than these."""
        return function(x)

    def head(self, rows: int) -> Batch:
        """The first `rows` rows (fewer where there are fewer) in NumPy."""
        taken: list[Batch] = []
        have = 0
        for batch in self.batches(max(rows, 1)):
            taken.append(batch)
            have += len(next(leaves(batch[1]))[1])
            if have >= rows:
                break
        x, y, weights = join(taken)
        return _first(x, rows), _first(y, rows), None if weights is None else _first(weights, rows)

    @abc.abstractmethod
    def in_order(self, names: Sequence[str]) -> "Split":
        """The same rows, with labels and weights that go by name as tuples in the order of `names`."""

    @abc.abstractmethod
    def targets(self) -> Structure:
        """The labels of all rows."""

    @abc.abstractmethod
    def weights(self) -> Structure | None:
        """The sample weights of all rows, None where there are none."""


class ArraySplit(Split):
    """Rows in NumPy arrays, or in nested dicts and tuples of them. Read-only.

    Args:
        x: inputs; NumPy, pandas, TensorFlow, JAX or PyTorch arrays or lists. float64 becomes float32, all other types stay.
        y: labels, likewise.
        sample_weight: None, or a weight for each row (for several outputs also one such array for each).
        name: how errors name the split.
        views: how many views of each row there are, all rows of one after those of another: epoch e of `dataset` has view e mod views.

    Raises:
        ValueError: no rows, unequal numbers of rows, NaN or infinity, not numbers, weights that are negative or all zero.
    """

    indexable = True

    def __init__(self, x: Any, y: Any, sample_weight: Any = None, *, name: str = "data", views: int = 1) -> None:
        self.views = views
        self.x: Structure = arrays.to_arrays(x, f"`{name}` x", text=True)
        self.y: Structure = arrays.to_arrays(y, f"`{name}` y")
        self.sample_weight: Structure | None = None if sample_weight is None else arrays.to_arrays(sample_weight, f"`{name}` sample_weight")
        self._rows = arrays.check_rows(_named(self._parts), f"`{name}`")
        for part, value in _named(self._parts).items():
            arrays.check_finite(value, f"`{name}` {part}")
        for place, weights in leaves(self.sample_weight, f"`{name}` sample_weight") if sample_weight is not None else ():
            if weights.min() < 0 or weights.max() <= 0:
                raise ValueError(
                    f"{place}: expected weights from 0 up, not all zero. Received: values from {weights.min()} to {weights.max()}. "
                    "Leave rows out instead of giving them a negative weight."
                )

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        return f"ArraySplit({self._rows} rows)"

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def _parts(self) -> tuple[Structure, ...]:
        return (self.x, self.y) if self.sample_weight is None else (self.x, self.y, self.sample_weight)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over structure, dtypes, shapes and bytes."""
        return arrays.fingerprint(_named(self._parts))

    def take(self, rows: np.ndarray) -> "ArraySplit":
        """A split of the given row numbers (repeats allowed), in that order."""
        return ArraySplit(*map_leaves(lambda leaf: leaf[rows], self._parts))

    def in_order(self, names: Sequence[str]) -> "ArraySplit":
        made = copy.copy(self)
        made.__dict__.pop("fingerprint", None)
        made.y, made.sample_weight = arrays.in_order(self.y, names), arrays.in_order(self.sample_weight, names)
        return made

    def steps(self, batch_size: int) -> int:
        """Batches in one epoch; the last may be short."""
        return -(-(self._rows // self.views) // _positive("batch_size", batch_size))

    def dataset(self, batch_size: int, *, seed: int | None = None, start: int = 0, epochs: int = 1) -> "tf.data.Dataset":
        """The epochs `start` to `epochs - 1`, one after the other, as one `tf.data.Dataset`.

        Epoch e comes in the order `numpy.random.default_rng([seed, e]).permutation(rows)`, whatever was read before it, so a run
        that resumes at epoch k sees the batches it would have seen. The last batch of an epoch may be short.

        Args:
            batch_size: rows in a batch.
            seed: of the order; None keeps the rows in order.
            start: the first epoch.
            epochs: the epoch before which it ends.

        Returns:
            Batches `(x, y)` or `(x, y, sample_weight)`; `steps(batch_size)` of them an epoch, for
            `fit(steps_per_epoch=..., shuffle=False)`.
        """
        import tensorflow as tf

        steps, rows = self.steps(batch_size), self._rows // self.views
        if not 0 <= start < epochs:
            raise ValueError(f"`start`: expected 0 <= start < epochs. Received: start={start}, epochs={epochs}. Give at least one epoch.")
        if seed is not None and seed < 0:
            raise ValueError(f"`seed`: expected an integer from 0, or None. Received: seed={seed}. Use a number from 0.")

        def permutation(epoch: np.int64) -> np.ndarray:
            return np.random.default_rng([seed or 0, int(epoch)]).permutation(rows).astype(np.int64)

        def index(epoch: Any) -> Any:
            order = tf.range(rows, dtype=tf.int64) if seed is None else tf.numpy_function(permutation, [epoch], tf.int64)
            order = tf.ensure_shape(order, [rows]) + epoch % self.views * rows
            whole = rows // batch_size * batch_size
            parts = [tf.data.Dataset.from_tensor_slices(tf.reshape(order[:whole], [-1, batch_size]))] if whole else []
            parts += [tf.data.Dataset.from_tensors(order[whole:])] if whole < rows else []
            return parts[0] if len(parts) == 1 else parts[0].concatenate(parts[1])

        def batch(chosen: Any, held: tuple[Any, ...]) -> Structure:
            tensors = iter(held)
            return map_leaves(lambda leaf: _read(leaf, chosen) if _in_file(leaf) else tf.gather(next(tensors), chosen), self._parts)

        with tf.device("CPU:0"):
            held = tf.data.Dataset.from_tensors(tuple(tf.constant(leaf) for _, leaf in leaves(self._parts) if not _in_file(leaf))).repeat()
        order = tf.data.Dataset.range(start, epochs).flat_map(index)
        batches = tf.data.Dataset.zip(order, held)
        batches = batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps * (epochs - start))).prefetch(tf.data.AUTOTUNE)
        # As Keras does for arrays: rewriting the pipeline would hold a second copy of the rows, and there are no files to shard by.
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        return batches.with_options(options)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        for first in range(0, self._rows, _positive("batch_size", batch_size)):
            yield as_batch(map_leaves(lambda leaf, first=first: leaf[first : first + batch_size], self._parts))

    def targets(self) -> Structure:
        return self.y

    def weights(self) -> Structure | None:
        return self.sample_weight


def _in_file(array: np.ndarray) -> bool:
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base is not None


def _read(array: np.ndarray, rows: Any) -> Any:
    import tensorflow as tf

    batch = tf.numpy_function(lambda chosen: array[chosen], [rows], tf.as_dtype(array.dtype))
    return tf.ensure_shape(batch, [None, *array.shape[1:]])


def as_batch(parts: tuple[Structure, ...]) -> Batch:
    """`(x, y)` or `(x, y, sample_weight)` as `(x, y, sample_weight or None)`."""
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def _named(parts: tuple[Structure, ...]) -> dict[str, Structure]:
    return dict(zip(PARTS[: len(parts)], parts, strict=True))


def join(batches: list[Batch]) -> Batch:
    """One batch of the rows of all."""

    def one(*parts: Structure) -> Structure:
        return None if parts[0] is None else map_leaves(lambda *pieces: np.concatenate(pieces), *parts)

    return one(*(batch[0] for batch in batches)), one(*(batch[1] for batch in batches)), one(*(batch[2] for batch in batches))


def _first(structure: Structure, rows: int) -> Structure:
    return map_leaves(lambda leaf: leaf[:rows], structure)


def _positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"`{name}`: expected an integer from 1. Received: {name}={value!r}. Give the number of rows in a batch.")
    return int(value)
