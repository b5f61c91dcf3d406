import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdfuse as kf
from kdfuse.matching import matched

layers = keras.layers
TRAIN = kf.Train(epochs=2, batch_size=64, learning_rate=3e-3)


@pytest.fixture(scope="module")
def digits():
    return kf.datasets.load("digits")


def labels(split):
    return {"department": split.y, "priority": (split.y % 2).astype("float32")}


@pytest.fixture(scope="module")
def data(digits):
    splits = {name: (digits.split(name).x, labels(digits.split(name))) for name in ("train", "validation", "test")}
    return kf.Data(**splits, name="tickets")


def model(seed=0, name="guide"):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Dense(24, "relu")(layers.Flatten()(inputs))
    ends = [layers.Dense(1, "sigmoid", name="priority")(hidden), layers.Dense(10, "softmax", name="department")(hidden)]
    return keras.Model(inputs, ends, name=name)


def stream(split, weight=None):
    parts = (split.x, labels(split)) if weight is None else (split.x, labels(split), {name: weight for name in labels(split)})
    return tf.data.Dataset.from_tensor_slices(parts).batch(64)


class Rows(keras.utils.PyDataset):
    def __init__(self, split):
        super().__init__()
        self.split = split

    def __len__(self):
        return len(self.split.y) // 64

    def __getitem__(self, index):
        rows = slice(64 * index, 64 * index + 64)
        return self.split.x[rows], {name: one[rows] for name, one in labels(self.split).items()}


def by_hand(made, split):
    priority, department = made.predict(split.x, verbose=0)
    return np.mean((priority[:, 0] > 0.5) == split.y % 2), np.mean(department.argmax(-1) == split.y)


@pytest.mark.parametrize("kind", ["arrays", "weights of each", "tf.data", "tf.data with weights", "PyDataset"])
def test_labels_by_name_reach_their_outputs_in_a_list(kind, data, digits):
    ones = np.ones(len(digits.train.y), "float32")
    train = {
        "arrays": data.train,
        "weights of each": (digits.train.x, labels(digits.train), {name: ones for name in labels(digits.train)}),
        "tf.data": stream(digits.train),
        "tf.data with weights": stream(digits.train, ones),
        "PyDataset": Rows(digits.train),
    }[kind]
    given = data.with_splits(train=train)
    made, report = TRAIN(model(), given)
    found = [report.metrics[f"test/{name}/accuracy"] for name in ("priority", "department")]
    np.testing.assert_allclose(found, by_hand(made, digits.test), atol=1e-6)
    assert min(found) > 0.45  # an output that learns the labels of the other one is right as often as by chance
    again = kf.evaluate(made, given)
    assert {name: again.metrics[name] for name in report.metrics if name.startswith("test/")} == {
        name: value for name, value in report.metrics.items() if name.startswith("test/")
    }


def test_it_learns_as_from_a_tuple_in_the_order_of_the_outputs(data, digits):
    def pair(split):
        return labels(split)["priority"], labels(split)["department"]

    tuples = kf.Data(train=(digits.train.x, pair(digits.train)), validation=(digits.validation.x, pair(digits.validation)))
    for one, two in zip(TRAIN(model(), data)[0].get_weights(), TRAIN(model(), tuples)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "technique",
    [
        kf.Parallel(),
        kf.Stack(folds=None),
        kf.Stack(folds=None, meta=kf.models.mlp, meta_training=kf.Train(epochs=1)),
        kf.Cascade(),
        kf.Gate(training=kf.Train(epochs=1)),
        kf.Chained(training=kf.Train(epochs=1), pretrained=True),
    ],
    ids=["parallel", "stack", "stack with a network", "cascade", "gate", "chained"],
)
def test_ensembles_keep_the_names_so_that_the_next_technique_takes_the_same_labels(technique, data, tmp_path):
    made, report = technique([model(0, "a"), model(1, "b")], data)
    assert made.output_names == ["priority", "department"]
    made.save(tmp_path / "m.keras")
    loaded = kf.load_model(tmp_path / "m.keras")
    assert kf.evaluate(loaded, data).metrics["test/accuracy"] == pytest.approx(report.metrics["test/accuracy"])
    kf.Distill(loaded, training=kf.Train(epochs=1))(model(2), data)


def test_a_calibrated_model_keeps_them_too(data):
    assert kf.Calibrate()(model(), data)[0].output_names == ["priority", "department"]


def test_other_names_are_refused_before_training(data):
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Flatten()(inputs)
    unnamed = keras.Model(inputs, [layers.Dense(1, name="one")(hidden), layers.Dense(10, name="two")(hidden)], name="unnamed")
    with pytest.raises(ValueError, match=r"`data` y: expected labels of the outputs \['one', 'two'\] of 'unnamed'. Received: \['depart"):
        TRAIN(unnamed, data)


def test_what_needs_no_order_stays_as_it_is(data, digits):
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Flatten()(inputs)
    by_name = keras.Model(inputs, {"priority": layers.Dense(1)(hidden), "department": layers.Dense(10)(hidden)})
    assert matched([by_name], data) is data
    assert matched([kf.models.mlp], data) is data
    assert matched([kf.models.mlp(digits)], digits) is digits


def test_the_data_is_put_in_order_once_and_keeps_its_fingerprint(data):
    made = matched([model()], data)
    assert made is matched([model(3)], data) and made.fingerprint == data.fingerprint and made.task == ("binary", "classification")
    assert made.classes == (1, 10) and made.name == data.name
    fewer = made.with_splits(test=None)
    assert fewer.test is None and matched([model()], data.with_splits(test=None)).test is None
    assert matched([model()], fewer) is fewer


def binary_model(units=1, name="yes_no"):
    end = layers.Dense(units, "sigmoid" if units == 1 else "softmax")
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), end], name=name)


@pytest.mark.parametrize("kind", ["arrays", "tf.data"])
def test_two_classes_are_no_and_yes_for_one_unit(kind, digits):
    def pair(split):
        return split.x, split.y % 2

    train = pair(digits.train) if kind == "arrays" else tf.data.Dataset.from_tensor_slices(pair(digits.train)).batch(32)
    data = kf.Data(train=train, validation=pair(digits.validation), test=pair(digits.test))
    made, report = TRAIN(binary_model(), data)
    by_hand = np.mean((made.predict(digits.test.x, verbose=0)[:, 0] > 0.5) == digits.test.y % 2)
    assert report.metrics["test/accuracy"] == pytest.approx(by_hand) and by_hand > 0.6
    assert kf.evaluate(made, data).metrics["test/accuracy"] == pytest.approx(by_hand)
    kf.Distill(made, training=kf.Train(epochs=1))(binary_model(name="student"), data)
    assert TRAIN(binary_model(2), data)[1].metrics["test/accuracy"] > 0.6
    assert data.task == "classification" and data.classes == 2


def test_a_task_that_the_user_set_stays(digits):
    data = kf.Data(train=(digits.train.x, digits.train.y % 2), task="classification")
    assert matched([binary_model()], data) is data
    with pytest.raises(ValueError, match=r"Give the last layer 2 units, or give Data\(task='binary'\)"):
        TRAIN(binary_model(), data)


def test_no_and_yes_by_name_beside_classes(data, digits):
    by_name = kf.Data(train=(digits.train.x, {"department": digits.train.y, "priority": digits.train.y % 2}))
    assert by_name.task == {"department": "classification", "priority": "classification"}
    found = matched([model()], by_name)
    assert found.task == ("binary", "classification") and found.classes == (1, 10) and matched([model(1)], by_name) is found
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Flatten()(inputs)
    by_key = keras.Model(inputs, {"priority": layers.Dense(1)(hidden), "department": layers.Dense(10)(hidden)})
    assert matched([by_key], by_name).task == {"department": "classification", "priority": "binary"}


def test_data_that_was_matched_is_let_go(digits):
    by_name = kf.Data(train=(digits.train.x, {"department": digits.train.y, "priority": digits.train.y % 2}))
    two = kf.Data(train=(digits.train.x, digits.train.y % 2))
    matched([model()], by_name), matched([binary_model()], two), matched([binary_model(2)], two)
    gone = [weakref.ref(one) for one in (by_name, two)]
    del by_name, two
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_a_stream_is_not_read_whole_where_no_output_has_one_unit(digits):
    read = []

    class Counted(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            read.append(index)
            rows = slice(32 * index, 32 * index + 32)
            return digits.train.x[rows], digits.train.y[rows] % 2

    data = kf.Data(train=Counted())
    read.clear()
    assert matched([binary_model(2)], data) is data and 3 not in read
    assert matched([binary_model()], data).task == "binary" and 3 in read
