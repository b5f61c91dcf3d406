import keras
import numpy as np
import pytest

from kdfuse.fitting.compiled import auto_loss, auto_metrics, carry_compile, compile_settings


def dense(units=3):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])


def test_an_uncompiled_model_carries_nothing():
    source, target = dense(), dense()
    carry_compile(source, target)
    assert not target.compiled and compile_settings(source) == {}


def test_loss_weights_metrics_and_optimizer_are_carried_as_copies():
    source, target = dense(), dense()
    loss, metric = keras.losses.Huber(delta=0.3), keras.metrics.MeanSquaredError(name="sq")
    source.compile(keras.optimizers.Adam(0.02), loss, metrics=[metric])
    carry_compile(source, target)
    assert float(target.optimizer.learning_rate) == pytest.approx(0.02) and target.optimizer is not source.optimizer
    x, y = np.ones((4, 2)), np.zeros((4, 3))
    target.set_weights(source.get_weights())
    assert target.evaluate(x, y, verbose=0) == pytest.approx(source.evaluate(x, y, verbose=0))
    assert compile_settings(target)["metrics"][0] is not metric


def test_a_loss_function_of_the_users_own_is_carried():
    def own(y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)

    source, target = dense(), dense()
    source.compile("sgd", own)
    carry_compile(source, target)
    assert compile_settings(target)["loss"] is own


LABELS, ONE_HOT, COLUMN = np.zeros((2,), "int64"), np.eye(3, dtype="int32")[:2], np.zeros((2, 1), "float32")


@pytest.mark.parametrize(
    ("head", "task", "y", "width", "loss", "logits"),
    [
        ("logits", "classification", LABELS, 3, "SparseCategoricalCrossentropy", True),
        ("softmax", "classification", LABELS, 3, "SparseCategoricalCrossentropy", False),
        ("softmax", "classification", ONE_HOT, 3, "CategoricalCrossentropy", False),
        ("logits", "binary", COLUMN, 1, "BinaryCrossentropy", True),
        ("sigmoid", "binary", COLUMN, 1, "BinaryCrossentropy", False),
        ("sigmoid", "multilabel", ONE_HOT, 3, "BinaryCrossentropy", False),
    ],
)
def test_the_loss_fits_the_head(head, task, y, width, loss, logits):
    made = auto_loss(head, task, y, np.zeros((2, width)))
    assert type(made).__name__ == loss and made.get_config()["from_logits"] is logits
    assert auto_metrics(head, task, y, np.zeros((2, width)))[0].name == "accuracy"


def test_regression_and_several_outputs():
    assert type(auto_loss("regression", "regression", COLUMN, COLUMN)).__name__ == "MeanSquaredError"
    head, task, y = {"a": "logits", "b": "regression"}, {"a": "classification", "b": "regression"}, {"a": LABELS, "b": COLUMN}
    outputs = {"a": np.zeros((2, 3)), "b": np.zeros((2, 1))}
    made = auto_loss(head, task, y, outputs)
    assert type(made["a"]).__name__ == "SparseCategoricalCrossentropy" and type(made["b"]).__name__ == "MeanSquaredError"
    made = auto_loss(list(head.values()), task, tuple(y.values()), list(outputs.values()))
    assert [type(item).__name__ for item in made] == ["SparseCategoricalCrossentropy", "MeanSquaredError"]
    assert auto_metrics(head, task, y, outputs)["b"][0].name == "mae"


def test_sequence_labels_of_integers_are_sparse():
    made = auto_loss("logits", "classification", np.zeros((2, 7), "int64"), np.zeros((2, 7, 5)))
    assert type(made).__name__ == "SparseCategoricalCrossentropy"


def test_class_numbers_in_a_column_are_no_one_hot_rows():
    outputs = np.zeros((4, 10), "float32")
    for targets, kind in ((np.zeros((4, 1), "int64"), "Sparse"), (np.zeros(4, "int64"), "Sparse"), (np.eye(10)[:4], "Categorical")):
        assert type(auto_loss("logits", "classification", targets, outputs)).__name__.startswith(kind)
        assert type(auto_metrics("logits", "classification", targets, outputs)[0]).__name__.startswith(kind)
