"""A teacher's lesson: logits and features in one pass, preprocessing, nothing left behind."""

from pathlib import Path

import keras
import numpy as np
import pytest

from kdfuse.distill.cache import Cache, forget, targets
from kdfuse.distill.teachers import Prepared, Teacher
from kdfuse.splits import ArraySplit

X = np.random.default_rng(0).standard_normal((30, 8, 8, 1)).astype("float32")
Y = np.arange(30) % 4


def convnet(size: int = 8) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 1))
    hidden = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    hidden = keras.layers.GlobalAveragePooling2D(name="pool")(hidden)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="head")(hidden), name="big")


def between(model: keras.Model, layer: str, x: np.ndarray = X) -> np.ndarray:
    return keras.Model(model.inputs, model.get_layer(layer).output).predict(x, verbose=0)


def test_logits_and_features() -> None:
    model = convnet()
    lesson = Teacher(model, "softmax", ("conv", None))(X)
    np.testing.assert_allclose(lesson["features"][0], between(model, "conv"), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(lesson["features"][1], between(model, "pool"), rtol=1e-4, atol=1e-6)
    kernel, bias = model.get_layer("head").get_weights()
    np.testing.assert_allclose(lesson["logits"], between(model, "pool") @ kernel + bias, rtol=1e-4, atol=1e-5)
    assert set(Teacher(model, "softmax")(X)) == {"logits"} and "call" not in vars(model.get_layer("conv"))


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_are_kept(where: str, dtype: str) -> None:
    forget()
    model, split = convnet(), ArraySplit(X, Y)
    teacher, cache = Teacher(model, "softmax", ("conv", None)), Cache(where, dtype)
    made = targets(teacher, split, batch_size=7, cache=cache)
    assert made.source == "computed" and made.outputs.dtype == dtype
    for found, layer in zip(made.lesson["features"], ("conv", "pool"), strict=True):
        assert found.dtype == dtype and isinstance(found, np.memmap) == (where == "disk")
        np.testing.assert_allclose(found, between(model, layer), rtol=2e-3 if dtype == "float16" else 1e-4, atol=1e-3)
    assert targets(teacher, split, cache=cache).source == where
    other = {"float32": "float16", "float16": "float32"}[dtype]
    assert targets(teacher, split, cache=Cache(where, other)).source == "computed"
    assert targets(Teacher(model, "softmax", ("conv",)), split, cache=cache).source == "computed"
    few = targets(teacher, split, cache=Cache(where, dtype, top_k=2))
    assert few.source == "computed" and few.outputs["top_values"].shape == (30, 2) and few.outputs["top_places"].dtype == np.int32


def test_float16_does_not_overflow() -> None:
    forget()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, kernel_initializer="ones")])
    found = targets(Teacher(model), ArraySplit(np.full((4, 2), 1e5), np.zeros(4)), cache=Cache("memory", "float16")).outputs
    np.testing.assert_array_equal(found, np.float16(65504))


def test_a_teacher_behind_its_own_preprocessing(tmp_path: Path) -> None:
    model = convnet(16)
    prepared = Prepared(keras.Sequential([keras.layers.Resizing(16, 16), keras.layers.Rescaling(2.0)]), model)
    inputs = 2 * np.asarray(keras.ops.image.resize(X, (16, 16)))
    np.testing.assert_allclose(prepared(X), model(inputs), rtol=1e-5)
    lesson = Teacher(prepared, "softmax", ("conv", None), X[:2])(X)
    np.testing.assert_allclose(lesson["features"][0], between(model, "conv", inputs), rtol=1e-4, atol=1e-5)
    prepared.save(tmp_path / "prepared.keras")
    again = keras.saving.load_model(tmp_path / "prepared.keras")
    np.testing.assert_allclose(again(X), prepared(X), rtol=1e-6)


def test_nothing_stays_in_the_model() -> None:
    model = convnet()
    model.get_layer("conv").activity_regularizer = keras.regularizers.L2(0.1)
    before = [dict(vars(layer)) for layer in model.layers]
    Teacher(model, "softmax", ("conv", None))(X)
    assert model.losses == [] and model.trainable and [set(vars(layer)) for layer in model.layers] == [set(one) for one in before]


@pytest.mark.parametrize("wrong", [{"where": "ram"}, {"dtype": "int8"}, {"top_k": 0}, {"top_k": True}, {"views": -1}, {"views": None}])
def test_wrong_settings_of_the_cache(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
        Cache(**wrong)
