from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.models.mlp import mlp


def data(input_shape: Any = (28, 28), task: Any = "classification", classes: Any = 10) -> SimpleNamespace:
    return SimpleNamespace(input_shape=input_shape, task=task, classes=classes)


def names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers]


def test_the_parameters_of_hintons_teacher() -> None:
    assert mlp(data(), units=(1200, 1200)).count_params() == 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 10 + 10 == 2_395_210
    assert mlp(data(), units=1200, layers=2).to_json() == mlp(data(), units=(1200, 1200)).to_json()


def test_layers_alone_count_the_default_width() -> None:
    assert mlp(data()).to_json() == mlp(data(), units=(128, 128)).to_json() == mlp(data(), layers=2).to_json()
    assert mlp(data(), layers=3).to_json() == mlp(data(), units=(128, 128, 128)).to_json()


def test_layers_count_one_width() -> None:
    assert names(mlp(data(), units=7)) == ["input", "flatten", "dense_1", "activation_1", "logits"]
    assert mlp(data(), units=(7, 8), layers=2).count_params() == mlp(data(), units=(7, 8)).count_params()
    with pytest.raises(ValueError, match=r"`units`: expected 3 values, as layers=3 says.*single number"):
        mlp(data(), units=(7, 8), layers=3)


def test_a_linear_model() -> None:
    for model in (mlp(data(), units=()), mlp(data(), units=5, layers=0)):
        assert names(model) == ["input", "flatten", "logits"]
        assert model.count_params() == 7850


def test_the_parts_stand_in_order() -> None:
    model = mlp(data((4,)), units=(4, 6), batch_norm=True, skip=True, dropout=(0.1, 0.2), input_dropout=0.3)
    second = ["dense_2", "batch_norm_2", "activation_2", "skip_2", "add_2", "dropout_2"]
    assert names(model) == ["input", "input_dropout", "dense_1", "batch_norm_1", "activation_1", "add_1", "dropout_1", *second, "logits"]
    assert [model.get_layer(name).rate for name in ("input_dropout", "dropout_1", "dropout_2")] == [0.3, 0.1, 0.2]
    # dense without bias, four numbers a unit in batch normalization, and the projection 4 -> 6
    assert model.count_params() == (16 + 16) + (24 + 24 + 24) + (6 * 10 + 10)


def test_dropout_differs_by_layer() -> None:
    model = mlp(data((4,)), units=(64, 64), dropout=0.5)
    ones = np.ones((1, 64), "float32")
    one, two = (model.get_layer(name)(ones, training=True) for name in ("dropout_1", "dropout_2"))
    assert not np.array_equal(one, two)


def test_max_norm_limits_each_units_incoming_weights() -> None:
    model = mlp(data((6,)), units=5, max_norm=0.5)
    kernel = model.get_layer("dense_1").kernel
    kernel.assign(kernel.constraint(kernel * 100))
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 0.5, rtol=1e-4)
    assert model.layers[-1].kernel_constraint is None


def test_several_inputs_are_joined_in_order() -> None:
    model = mlp(data({"image": (2, 2), "age": (1,), "flag": ()}), units=())
    assert names(model)[-2:] == ["concatenate", "logits"]
    assert model.count_params() == 6 * 10 + 10
    kernel = np.zeros((6, 10), "float32")
    kernel[:, 0] = 10.0 ** np.arange(6)
    model.layers[-1].set_weights([kernel, np.zeros(10, "float32")])
    x = {"image": np.array([[[1, 2], [3, 4]]]), "age": np.array([[5]]), "flag": np.array([6])}
    assert float(model(x)[0, 0]) == 654321


def test_several_outputs_train_with_their_names() -> None:
    tasks = {"digit": "classification", "even": "binary", "size": "regression"}
    model = mlp(data((4,), tasks, {"digit": 10, "even": 1, "size": 2}), units=8)
    assert {key: tuple(value.shape) for key, value in model.output.items()} == {"digit": (None, 10), "even": (None, 1), "size": (None, 2)}
    model.compile(
        "adam", loss={"digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "even": "binary_crossentropy", "size": "mse"}
    )
    y = {"digit": np.arange(8), "even": np.arange(8)[:, None] % 2, "size": np.ones((8, 2))}
    model.fit(np.ones((8, 4)), y, verbose=0)


def test_tuples_of_inputs_and_outputs_train() -> None:
    model = mlp(data(((4,), (2, 2)), ("classification", "regression"), (3, None)), units=8)
    assert names(model)[-2:] == ["output_1", "output_2"]
    model.compile("adam", loss=(keras.losses.SparseCategoricalCrossentropy(from_logits=True), keras.losses.MeanSquaredError()))
    model.fit((np.ones((8, 4)), np.ones((8, 2, 2))), (np.arange(8) % 3, np.ones(8)), verbose=0)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fixed size for mlp. Received: \(None, 3\) for 'input'"):
        mlp(data((None, 3)))
