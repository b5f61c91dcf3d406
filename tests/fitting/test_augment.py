"""Augmentation as a function of (seed, epoch, batch)."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.fitting.augment import augmented, seeded, views
from kdfuse.settings import flatten
from kdfuse.splits import ArraySplit
from kdfuse.streams import StreamSplit
from kdfuse.technique import Chain
from kdfuse.train import Train

X = np.random.default_rng(0).standard_normal((50, 6)).astype("float32")
Y = np.arange(50) % 4


def noise() -> keras.layers.Layer:
    return keras.layers.GaussianNoise(0.5, seed=3)


def batches(split: Any, seed: int, start: int = 0, epochs: int = 2, layer: Any = None) -> list[np.ndarray]:
    steps = split.steps(16)
    source = split.dataset(16, seed=1, start=start, epochs=epochs)
    first = start * steps if split.indexable else None
    return [x for x, _ in augmented(source, split, layer or noise(), seed, first).as_numpy_iterator()]


def test_each_batch_has_its_own_draw_and_any_epoch_can_be_the_first() -> None:
    split = ArraySplit(X, Y)
    found = batches(split, 0)
    plain = [x for x, _ in split.dataset(16, seed=1, epochs=2).as_numpy_iterator()]
    added = [a - b for a, b in zip(found, plain, strict=True)]
    assert 0.4 < np.std(np.concatenate(added)) < 0.6
    assert all(not np.allclose(a[:2], b[:2]) for place, a in enumerate(added) for b in added[:place])
    for a, b in zip(found, batches(split, 0), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(found[4:], batches(split, 0, start=1), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(found[0], batches(split, 1)[0])


def test_the_layer_stays_as_it_is() -> None:
    layer = keras.Sequential([noise(), keras.layers.Dropout(0.5, seed=1)])
    layer(X)
    before = [np.array(variable.numpy()) for variable in layer.variables]
    one, two = (np.asarray(seeded(layer, X, 0, number)) for number in (0, 0))
    np.testing.assert_array_equal(one, two)
    assert all(np.array_equal(a, variable.numpy()) for a, variable in zip(before, layer.variables, strict=True))


def test_streams_get_other_draws_in_each_pass() -> None:
    source = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    stream = augmented(source, StreamSplit(source), noise(), 0, None)
    first, second = ([x for x, _ in stream.as_numpy_iterator()] for _ in range(2))
    assert not np.allclose(first[0], second[0]) and not np.allclose(first[0] - X[:16], first[1] - X[16:32])


def test_views_are_drawn_once_each() -> None:
    made = views(ArraySplit(X, Y), noise(), 0, 3, batch_size=16)
    assert len(made) == 150 and np.array_equal(made.y, np.tile(Y, 3))
    parts = np.split(made.x, 3)
    assert not np.allclose(parts[0], parts[1]) and 0.4 < np.std(parts[2] - X) < 0.6
    np.testing.assert_array_equal(made.x, views(ArraySplit(X, Y), noise(), 0, 3, batch_size=16).x)


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(4)])


def weights(training: Any, data: Any = None) -> list[np.ndarray]:
    made, _ = training(model(), data or Data(train=(X, Y)))
    return made.get_weights()


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_with_it() -> None:
    plain, changed = weights(Train(epochs=2)), weights(Train(epochs=2, augment=noise()))
    assert not same(plain, changed)
    assert same(changed, weights(Train(epochs=2, augment=noise()))) and not same(changed, weights(Train(epochs=2, augment=noise(), seed=1)))
    assert same(weights(Train(epochs=2, augment=keras.layers.Rescaling(1.0))), plain)
    assert "GaussianNoise" in flatten(Train(augment=noise())).values()
    images = keras.Sequential([keras.layers.Reshape((2, 3, 1)), keras.layers.RandomFlip(seed=0), keras.layers.Flatten()])
    assert not same(weights(Chain([Train(epochs=2, augment=images)])), plain)


def test_an_interrupted_call_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    training, data = Train(epochs=4, augment=noise()), Data(train=(X, Y))
    undisturbed = weights(training, data)
    log = recording.Run.log

    def stop(run: recording.Run, values: Any, step: int | None = None) -> None:
        log(run, values, step)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recording.Run, "log", stop)
        weights(training, data)
    made, report = training(model(), data)
    assert any("Resumed" in note for note in report.notes) and same(undisturbed, made.get_weights())


def test_what_cannot_augment() -> None:
    with pytest.raises(TypeError, match="`augment`: expected a Keras layer"):
        Train(augment=lambda x: x)  # type: ignore[arg-type]

    class Source(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, place: int) -> Any:
            return X, Y

    with pytest.raises(ValueError, match="`augment`: expected arrays or a tf.data.Dataset. Received: a Source"):
        Train(augment=noise())(model(), Data(train=Source()))
