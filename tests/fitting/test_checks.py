"""What is refused before training."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.fitting.checks import check_columns, check_outputs, class_weights
from kdfuse.fitting.stopping import Stopping
from kdfuse.train import Train

X = np.zeros((8, 4), "float32")
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 2])


def test_balanced_weights_are_rows_over_classes_times_rows_of_the_class():
    data = Data(train=(X, LABELS))
    assert class_weights("balanced", data) == pytest.approx({0: 8 / 15, 1: 8 / 6, 2: 8 / 3})
    one_hot = Data(train=(X, np.eye(3, dtype="float32")[LABELS]))
    assert class_weights("balanced", one_hot) == pytest.approx(class_weights("balanced", data))
    assert class_weights({1: 3.0}, data) == {0: 1.0, 1: 3.0, 2: 1.0} and class_weights(None, data) is None


def test_weights_that_do_not_fit_raise():
    with pytest.raises(ValueError, match="one output of classes"):
        class_weights("balanced", Data(train=(X, X)))
    for wrong in ({3: 1.0}, {0: -1.0}):
        with pytest.raises(ValueError, match="classes 0 to 2"):
            class_weights(wrong, Data(train=(X, LABELS)))


def test_outputs_must_be_as_many_and_as_wide_as_the_targets():
    inputs = keras.Input((4,))
    three, four = keras.layers.Dense(3)(inputs), keras.layers.Dense(4, name="four")(inputs)
    data = Data(train=(X, LABELS))
    check_outputs(keras.Model(inputs, three), data, X)
    with pytest.raises(ValueError, match="expected 3 units in the output 'four'"):
        check_outputs(keras.Model(inputs, four), data, X)
    with pytest.raises(ValueError, match="expected 1 outputs"):
        check_outputs(keras.Model(inputs, [three, four]), data, X)


@pytest.mark.parametrize("activation", ["softmax", None, "sigmoid"])
def test_two_units_for_labels_in_one_column(activation):
    yes = (LABELS > 0)[:, None].astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation)])
    message = r"expected 1 unit in the output .*\(task 'binary'\). Received: 2. Give Data\(task='classification'\) if these are two classes"
    with pytest.raises(ValueError, match=message):
        Train().check(model, Data(train=(X, yes)))
    Train().check(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]), Data(train=(X, yes)))
    if activation != "sigmoid":  # the mend that the error names, and losses that know better
        Train().check(model, Data(train=(X, yes), task="classification"))
        Train(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)).check(model, Data(train=(X, yes)))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None))
        Train().check(model, Data(train=(X, yes)))


def test_columns_must_be_those_of_the_labels():
    inputs = keras.Input((4,))
    two, three = (keras.Model(inputs, keras.layers.Dense(units, name=f"of_{units}")(inputs)) for units in (2, 3))
    several = Data(train=(X, np.eye(4)[LABELS][:, :3] * [1, 1, 0]))
    values = Data(train=(X, np.random.default_rng(0).normal(size=(8, 3))))
    assert (several.task, values.task) == ("multilabel", "regression")
    for data in (several, values):
        x, y, _ = data.train.head(2)
        check_columns(three, data, x, y)
        with pytest.raises(ValueError, match="expected 3 units in the output 'of_2', one for each column of the labels .*. Received: 2"):
            check_columns(two, data, x, y)


def test_a_model_whose_votes_stop_every_gradient_is_refused():
    @keras.saving.register_keras_serializable("test_checks")
    class Vote(keras.layers.Layer):
        has_gradient = False

        def call(self, x):
            return keras.ops.cast(x > 0, "float32")

    data, inputs = Data(train=(X, LABELS)), keras.Input((4,))
    logits = keras.layers.Dense(3)(inputs)
    with pytest.raises(ValueError, match="'voting' decides by votes .vote., and no gradient gets past them"):
        Train().check(keras.Model(inputs, Vote(name="vote")(logits), name="voting"), data)
    beside = keras.layers.Add()([Vote()(logits), keras.layers.Dense(3)(inputs)])
    Train().check(keras.Model(inputs, beside), data)


def test_a_curve_of_keras_is_told_by_its_name_here():
    model, data = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), Data(train=(X, LABELS), validation=(X, LABELS))
    for name, near in (("val_loss", "'validation/loss'"), ("accuracy", "'train/accuracy' or 'validation/accuracy'")):
        with pytest.raises(ValueError, match=f"`monitor`: Stopping .*Received: '{name}'. Give {near}"):
            Train(stopping=Stopping(name)).check(model, data)
    with pytest.raises(ValueError, match="`loss`: expected .* Received: 'msee'"):
        Train(loss="msee").check(model, data)
    Train(loss="sparse_categorical_crossentropy").check(model, data)


def test_a_model_of_which_nothing_is_trainable():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="still")
    model.trainable = False
    with pytest.raises(ValueError, match="`model`: no weight of 'still' is trainable"):
        Train().check(model, Data(train=(X, LABELS)))


@pytest.mark.parametrize("columns", [3, 7])  # seven rows are tried, which must not pass for seven columns
def test_a_loss_that_cannot_compare_outputs_and_labels(columns):
    data = Data(train=(X, LABELS), class_names=[str(place) for place in range(columns)])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(columns)])
    for loss in ("mse", keras.losses.CategoricalCrossentropy(), keras.losses.mean_absolute_error):
        with pytest.raises(
            ValueError, match=rf"`loss`: .*cannot compare outputs of shape \({columns},\) with labels of shape \(\) and type int64"
        ):
            Train(loss=loss).check(model, data)
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="`loss`: 'mean_squared_error' cannot compare"):
        Train().check(model, data)
    Train(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)).check(model, data)


def test_one_unit_for_two_classes_is_told_of_the_binary_task():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    with pytest.raises(ValueError, match=r"Give the last layer 2 units, or give Data\(task='binary'\) if the labels are no and yes"):
        Train().check(model, Data(train=(X, LABELS % 2)))
