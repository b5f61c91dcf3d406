"""Random augmentation of inputs, as a function of (seed, epoch, batch), so that an interrupted run goes on exactly."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.arrays import map_leaves
from kdfuse.splits import ArraySplit, Split


def check_augment(layer: Any) -> None:
    """Check the setting `augment`.

    Raises:
        TypeError: neither a Keras layer nor None.
    """
    if layer is not None and not isinstance(layer, keras.Layer):
        raise TypeError(
            f"`augment`: expected a Keras layer or a Sequential of them, such as keras.layers.RandomTranslation(0.1, 0.1), or None. "
            f"Received: {layer!r}."
        )


def check_source(split: Split) -> None:
    """Check that the inputs of a training split can be augmented.

    Raises:
        ValueError: it is a PyDataset.
    """
    source = getattr(split, "source", None)
    if source is not None and not hasattr(source, "element_spec"):
        raise ValueError(
            f"`augment`: expected arrays or a tf.data.Dataset. Received: a {type(source).__name__}. Augment in it, or give arrays."
        )


def augmented(dataset: tf.data.Dataset, split: Split, layer: keras.Layer, seed: int, first: int | None) -> tf.data.Dataset:
    """A stream of batches whose inputs went through a layer with `training=True`.

    Args:
        dataset: batches `(x, y)` or `(x, y, sample_weight)`, from `split.dataset`.
        split: where they come from; it knows where the inputs are in x.
        layer: sees the inputs of a batch as they are in x. It stays as it is.
        seed: of all that it draws, with the number of the batch.
        first: the number of the first batch, counted from the beginning of the run. None: the batches of each pass get other
            numbers, as for a stream, whose passes nobody counts.
    """

    def change(number: Any, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = batch
        return (split.map_inputs(lambda inputs: seeded(layer, inputs, seed, number), x), *rest)

    numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True) if first is None else tf.data.Dataset.range(first, 2**62)
    batches = tf.data.Dataset.zip(numbers, dataset).map(change, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def seeded(layer: keras.Layer, inputs: Any, seed: int, number: Any) -> Any:
    """`layer(inputs, training=True)` with each of its seed generators set to a function of (seed, number); none is moved on."""
    mapping = []
    for place, generator in enumerate(_generators(layer)):
        drawn = int(np.random.default_rng([seed, place, 7]).integers(0, 2**31))
        # An odd factor: no two batches begin with the same state, and their streams do not meet.
        mixed = tf.cast((tf.cast(number, tf.int64) * 2654435761 + drawn) % 2**31, tf.int64)
        mapping.append((generator.state, tf.cast(tf.stack([mixed, tf.zeros_like(mixed)]), generator.state.dtype)))
    with keras.StatelessScope(state_mapping=mapping):
        return layer(inputs, training=True)


def views(split: ArraySplit, layer: keras.Layer, seed: int, count: int, batch_size: int = 256) -> ArraySplit:
    """Several augmented views of all rows, one view after the other.

    Args:
        split: the rows.
        layer: as in `augmented`.
        seed: of what it draws, with the number of the batch and of the view.
        count: views, at least 1.
        batch_size: rows in a batch.

    Returns:
        `count * rows` rows; the labels are repeated.
    """
    made = []
    compute = tf.function(lambda inputs, number: seeded(layer, inputs, seed, number), reduce_retracing=True)
    for number, (x, _, _) in enumerate(batch for _ in range(count) for batch in split.batches(batch_size)):
        made.append(map_leaves(lambda leaf: leaf.numpy(), compute(x, tf.constant(number, tf.int64))))
    y = map_leaves(lambda leaf: np.concatenate([leaf] * count), split.y)
    return ArraySplit(map_leaves(lambda *leaves: np.concatenate(leaves), *made), y, name="train, augmented,")


def _generators(layer: keras.Layer) -> list[Any]:
    found: list[Any] = []
    for part in layer._flatten_layers():
        own = [*part._seed_generators, *(value for value in vars(part).values() if isinstance(value, keras.random.SeedGenerator))]
        found += [one for one in own if all(one is not other for other in found)]
    return found
