import copy
import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from kdfuse.data import Data
from kdfuse.splits import ArraySplit
from kdfuse.streams import StreamSplit

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)


def test_arrays_in_three_splits() -> None:
    data = Data((X[:100], Y[:100]), (X[100:150], Y[100:150]), (X[150:200], Y[150:200], np.ones(50)), name="digits")
    assert (data.task, data.classes, data.input_shape, data.name, data.indexable) == ("classification", 10, (64,), "digits", True)
    assert data.split("test") is data.test and len(data.test) == 50  # type: ignore[arg-type]
    np.testing.assert_array_equal(data.example(3), X[:3])
    with pytest.raises(ValueError, match="Did you mean 'test'"):
        data.split("tests")


def test_a_share_is_split_off_by_class() -> None:
    data = Data((X, Y), validation=0.1, seed=3)
    validation = data.validation
    assert isinstance(validation, ArraySplit) and len(validation) == 180 and len(data.train) == 1617  # type: ignore[arg-type]
    shares = np.bincount(validation.y) / np.bincount(Y)
    assert np.all(np.abs(shares - 0.1) < 0.01)
    together = np.sort(np.concatenate([data.train.targets(), validation.y]))
    np.testing.assert_array_equal(together, np.sort(Y))
    assert Data((X, Y), 0.1, seed=3).fingerprint == data.fingerprint != Data((X, Y), 0.1, seed=4).fingerprint


def test_several_inputs_and_outputs() -> None:
    x = {"image": X[:40].reshape(-1, 8, 8, 1), "id": np.arange(40)}
    y = {"digit": Y[:40], "even": (Y[:40, None] % 2 == 0).astype(np.float32), "ink": X[:40].sum(axis=1)}
    reordered = {name: y[name][:10] for name in ("ink", "digit", "even")}
    data = Data((x, y), ({name: part[:10] for name, part in x.items()}, reordered))
    assert data.task == {"digit": "classification", "even": "binary", "ink": "regression"}
    assert data.classes == {"digit": 10, "even": 1, "ink": 1}
    assert data.input_shape == {"image": (8, 8, 1), "id": ()}
    assert Data((x, y), 0.25).validation is not None
    lists = Data(([X, X], [Y, X]))
    assert lists.input_shape == ((64,), (64,)) and lists.task == ("classification", "regression") and lists.classes == (10, 64)


def test_one_hot_binary_and_said_tasks() -> None:
    assert Data((X, np.eye(10)[Y])).classes == 10
    assert Data((X, (Y % 2)[:, None]), class_names=["even", "odd"]).task == "binary"
    assert Data((X, Y), task="regression").classes == 1
    assert Data((X[:5], np.zeros(5, int)), class_names=["a", "b", "c"]).classes == 3


def test_streams() -> None:
    source = tf.data.Dataset.from_tensor_slices((X[:64], Y[:64])).batch(16)
    data = Data(source, (X[:9], Y[:9]))
    assert isinstance(data.train, StreamSplit) and not data.indexable and data.fingerprint is None
    assert (data.task, data.classes, data.input_shape) == ("classification", 10, (64,))
    assert len(data.example(2)) == 2
    negative = Data(tf.data.Dataset.from_tensor_slices((X[:64], np.r_[Y[:63], -1])).batch(16))
    with pytest.raises(ValueError, match="class numbers from 0"):
        _ = negative.classes
    with pytest.raises(ValueError, match=r"`validation`.*stream"):
        Data(source, validation=0.1)


def test_with_splits_keeps_the_classes() -> None:
    data = Data((X, Y), 0.1, (X[:50], Y[:50]))
    sevens = data.with_splits(train=(X[Y == 7], Y[Y == 7]), test=None)
    assert (sevens.classes, sevens.test, sevens.validation) == (10, None, data.validation)
    assert sevens.fingerprint != data.fingerprint and data.test is not None
    fed = data.with_splits(train=ArraySplit({"inputs": X, "targets": X}, Y))
    assert fed.classes == 10 and fed.input_shape == {"inputs": (64,), "targets": (64,)}
    with pytest.raises(ValueError, match="labels from 0 to 9"):
        data.with_splits(test=(X[:1], np.array([10])))
    with pytest.raises(ValueError, match="Did you mean 'validation'"):
        data.with_splits(validations=None)
    with pytest.raises(ValueError, match="`train`"):
        data.with_splits(train=None)


def test_the_fingerprint_by_hand() -> None:
    data = Data((X[:9], Y[:9]), (X[10:13], Y[:3]))
    marks = f"train:{ArraySplit(X[:9], Y[:9]).fingerprint}|validation:{ArraySplit(X[10:13], Y[:3]).fingerprint}"
    assert data.fingerprint == hashlib.sha256(marks.encode()).hexdigest()
    assert Data((X[:9], Y[:9])).fingerprint != Data((X[:9], Y[:9].astype(np.int32))).fingerprint


def test_immutable_copied_and_pickled() -> None:
    data = Data((X[:20], Y[:20]), 0.2)
    with pytest.raises(AttributeError, match="with_splits"):
        data.train = None  # type: ignore[assignment]
    for twin in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert twin.fingerprint == data.fingerprint and twin.task == data.task
    assert "train=ArraySplit(16 rows)" in repr(data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": None}, "`train`: expected data to train on"),
        ({"train": X}, "`train`: expected .x, y."),
        ({"train": (X,)}, "Received: tuple of length 1"),
        ({"train": (X, Y), "validation": 1.0}, "share between 0 and 1"),
        ({"train": (X, Y), "validation": True}, "`validation`: expected .x, y."),
        ({"train": (X[:1], Y[:1]), "validation": 0.5}, "rows on both sides"),
        ({"train": (X, Y), "validation": (X[:0], Y[:0])}, "`validation`: expected at least one row"),
        ({"train": (X, Y), "test": (X[:5], Y[:4])}, "`test`: expected the same number of rows"),
        ({"train": (X, Y), "test": (X[:1], np.array([10]))}, "`test` y: expected labels from 0 to 9"),
        ({"train": (X, Y - 1)}, "`train` y: expected class numbers from 0"),
        ({"train": (X, Y), "test": (X[:1], {"digit": Y[:1]})}, "`test` y: expected the outputs"),
        (
            {"train": (X, Y), "test": (X[:1].reshape(1, 8, 8), Y[:1])},
            r"`test` x: expected inputs as in `train`, x \(64\). Received: x \(any, 8\)",
        ),
        ({"train": (X, Y), "test": (X[:1, :30], Y[:1])}, r"Received: x \(30\)"),
        ({"train": ({"a": X}, Y), "test": ({"b": X}, Y)}, r"x\['a'\] \(64\). Received: x\['b'\]"),
        ({"train": (X, Y), "class_names": ["a"]}, "by the class names"),
        ({"train": (X, np.eye(10)[Y]), "class_names": ["a"]}, "`class_names`"),
        ({"train": (X, Y), "task": "classify"}, "`task`"),
        ({"train": tf.data.Dataset.from_tensor_slices((X, Y))}, "`train`: expected a batched"),
    ],
)
def test_bad_data_in_one_clear_error(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Data(**arguments)
    assert "\n" not in str(caught.value) and "Received: " in str(caught.value)


def test_it_loads_no_tensorflow() -> None:
    code = "import sys, kdfuse.data, kdfuse.datasets, kdfuse.runtime; sys.exit('tensorflow' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_sample_is_drawn_from_all_rows() -> None:
    data = Data(train=(X, Y))
    rows = data.sample(100)
    assert rows.shape == (100, 64) and not np.array_equal(rows, X[:100])
    np.testing.assert_array_equal(rows, data.sample(100))
    assert not np.array_equal(rows, data.sample(100, seed=1))
    np.testing.assert_array_equal(Data(train=(X[:20], Y[:20])).sample(100), X[:20])
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)
    np.testing.assert_array_equal(Data(train=stream).sample(40), X[:40])


def test_weights_of_some_outputs_alone_are_refused() -> None:
    y, ones = {"digit": Y[:40], "ink": X[:40].sum(axis=1)}, np.ones(40)
    with pytest.raises(ValueError, match=r"`train` sample_weight: expected one array .* Received: sample_weight\['digit'\]. Give ones"):
        Data((X[:40], y, {"digit": ones}))
    Data((X[:40], y, {"ink": ones, "digit": ones}))
    Data((X[:40], y, ones))
