from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.splits import ArraySplit

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)


def rows_of(dataset: object) -> list[tuple[np.ndarray, ...]]:
    return list(dataset.as_numpy_iterator())  # type: ignore[attr-defined]


def test_in_order_without_a_seed() -> None:
    split = ArraySplit(X[:10], Y[:10])
    batches = rows_of(split.dataset(4))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X[:10])
    assert split.steps(4) == 3 and split.rows == len(split) == 10


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch() -> None:
    split = ArraySplit(X[:50], Y[:50])
    batches = rows_of(split.dataset(8, seed=5, epochs=3))
    assert len(batches) == 3 * split.steps(8)
    for epoch in range(3):
        labels = np.concatenate([y for _, y in batches[epoch * 7 : epoch * 7 + 7]])
        np.testing.assert_array_equal(labels, Y[:50][np.random.default_rng([5, epoch]).permutation(50)])


def test_resuming_gives_the_batches_that_were_left() -> None:
    split = ArraySplit(X[:50], Y[:50], np.linspace(0.1, 1, 50))
    whole, resumed = rows_of(split.dataset(16, seed=2, epochs=4)), rows_of(split.dataset(16, seed=2, start=2, epochs=4))
    for one, other in zip(whole[8:], resumed, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 51, 1000])
def test_odd_batch_sizes_lose_no_row(batch_size: int) -> None:
    split = ArraySplit(X[:50], Y[:50])
    dataset = split.dataset(batch_size, seed=0, epochs=2)
    labels = np.concatenate([y for _, y in rows_of(dataset)])
    assert int(dataset.cardinality()) == 2 * split.steps(batch_size)
    np.testing.assert_array_equal(np.sort(labels[:50]), np.sort(Y[:50]))
    np.testing.assert_array_equal(np.sort(labels[50:]), np.sort(Y[:50]))


def test_structures_and_weights_stay_together() -> None:
    number = np.arange(20)
    x = {"image": X[:20].reshape(20, 8, 8, 1), "pair": (number, number.astype(np.uint8))}
    split = ArraySplit(x, (number, number[:, None].astype(np.float16)), number)
    for inputs, (first, second), weights in rows_of(split.dataset(6, seed=1)):
        for part in (*inputs["pair"], second[:, 0], weights):
            np.testing.assert_array_equal(part, first)
        np.testing.assert_array_equal(inputs["image"].reshape(-1, 64), X[first])
        assert (inputs["pair"][1].dtype, second.dtype) == (np.uint8, np.float16)


def test_fit_trains_on_it_without_running_out(recwarn: pytest.WarningsRecorder) -> None:
    split = ArraySplit(X[:100], Y[:100])
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(
        split.dataset(32, seed=0, start=1, epochs=4), steps_per_epoch=split.steps(32), initial_epoch=1, epochs=4, shuffle=False, verbose=0
    )
    assert history.epoch == [1, 2, 3] and int(model.optimizer.iterations) == 12
    assert not [warning for warning in recwarn if "ran out of data" in str(warning.message)]


def test_an_array_in_a_file_stays_there(tmp_path: Path) -> None:
    stored = np.lib.format.open_memmap(tmp_path / "targets.npy", mode="w+", dtype=np.float32, shape=(50, 64))
    stored[:] = X[:50]
    split = ArraySplit({"inputs": X[:50], "targets": stored}, Y[:50])
    assert isinstance(split.x["targets"].base, np.memmap) or isinstance(split.x["targets"].base.base, np.memmap)
    for inputs, _ in rows_of(split.dataset(16, seed=3)):
        np.testing.assert_array_equal(inputs["targets"], inputs["inputs"])


def test_head_take_targets_and_batches() -> None:
    split = ArraySplit(X[:10], Y[:10], np.ones(10))
    x, y, weights = split.head(3)
    assert x.shape == (3, 64) and weights.shape == (3,)
    np.testing.assert_array_equal(y, Y[:3])
    assert len(split.head(99)[1]) == 10
    taken = split.take(np.array([4, 4, 1]))
    np.testing.assert_array_equal(taken.targets(), Y[[4, 4, 1]])
    assert taken.weights().shape == (3,)
    assert [len(y) for _, y, _ in split.batches(4)] == [4, 4, 2]
    assert ArraySplit(X[:2], Y[:2]).weights() is None


def test_the_fingerprint_is_of_rows_labels_and_weights() -> None:
    marks = {
        ArraySplit(X[:9], Y[:9]).fingerprint,
        ArraySplit(X[:9], Y[:9][::-1]).fingerprint,
        ArraySplit(X[:9], Y[:9], np.ones(9)).fingerprint,
    }
    assert len(marks) == 3
    assert ArraySplit(X[:9].copy(), Y[:9]).fingerprint in marks


@pytest.mark.parametrize(
    ("x", "y", "weights", "message"),
    [
        (X[:3], Y[:4], None, "same number of rows"),
        (X[:0], Y[:0], None, "at least one row"),
        (X[:3] * np.nan, Y[:3], None, "`data` x: expected finite"),
        (X[:3], np.array([1.0, np.inf, 0]), None, "`data` y: expected finite"),
        (X[:3], Y[:3], [1, np.nan, 1], "`data` sample_weight: expected finite"),
        (X[:3], Y[:3], [1, -1, 1], "weights from 0 up"),
        (X[:3], Y[:3], [0, 0, 0], "not all zero"),
        (X[:3], Y[:3], [1, 1], "same number of rows"),
    ],
)
def test_bad_rows(x: object, y: object, weights: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArraySplit(x, y, weights)


def test_bad_requests() -> None:
    split = ArraySplit(X[:3], Y[:3])
    for batch_size in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="`batch_size`: expected an integer from 1"):
            split.steps(batch_size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`start`"):
        split.dataset(2, seed=0, start=3, epochs=3)
    with pytest.raises(ValueError, match="`seed`"):
        split.dataset(2, seed=-1)
