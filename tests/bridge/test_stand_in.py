"""A tf_keras model in the place of a Keras 3 model: it trains the very variables, whatever the training."""

from typing import Any

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.bridge.stand_in import standing_in
from kdfuse.bridge.to_tf_keras import to_tf_keras
from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.train import Train

L = keras.layers
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 8, 8, 1)
DATA = Data(train=(X[:320], Y[:320]), validation=(X[1200:1300], Y[1200:1300]))


def net() -> keras.Model:
    keras.utils.set_random_seed(1)
    given = keras.Input((8, 8, 1))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, use_bias=False, kernel_regularizer="l2")(given)))
    return keras.Model(given, L.Dense(10)(L.Dropout(0.3, seed=1)(L.Flatten()(x))))


def over_the_bridge(training: Any, model: keras.Model) -> tuple[keras.Model, Any]:
    student = training.private(model, DATA)
    bridged = to_tf_keras(student, example=DATA.example(2))
    with standing_in(student, bridged.model, bridged.pairs):
        fitted = training.fit(student, DATA)
    return training.public(student, DATA), fitted


@pytest.mark.parametrize("kind", ["train", "distill"])
def test_training_over_the_bridge_is_training_itself(kind: str) -> None:
    plain = Train(epochs=2, l2=1e-3, seed=4, decay="cosine", optimizer=keras.optimizers.AdamW(0.01, clipnorm=1.0))
    training = plain if kind == "train" else Distill(net(), training=plain)
    itself = training.private(net(), DATA)
    expected = training.fit(itself, DATA)
    made, fitted = over_the_bridge(training, net())
    for ours, theirs in zip(made.get_weights(), itself.get_weights(), strict=True):
        assert np.allclose(ours, theirs, atol=2e-4)
    assert fitted.history["train/loss"] == pytest.approx(expected.history["train/loss"], rel=1e-4)
    assert not np.allclose(made.get_weights()[0], net().get_weights()[0])


def test_afterwards_the_model_is_its_own_again() -> None:
    model = net()
    bridged = to_tf_keras(model)
    values, layers = [variable._value for variable in model.variables], list(model.layers)
    x = X[:4]
    other = bridged.model
    other.layers[1].set_weights([np.ones_like(other.layers[1].get_weights()[0])])
    plain = np.asarray(model(x))
    with standing_in(model, other, bridged.pairs):
        assert len(model.weights) == len(values) - 1  # the state of dropout's generator is no weight
        assert np.allclose(model(x), plain, atol=1e-6), "the other model begins with the values of this one"
        model.weights[0].assign(model.weights[0] + 1.0)
        inside = np.asarray(model(x))
    assert [variable._value for variable in model.variables] == values and model.layers == layers and "call" not in vars(model)
    assert np.allclose(model(x), inside, atol=1e-5) and not np.allclose(plain, inside)


def test_it_ends_also_when_training_fails() -> None:
    model = net()
    bridged = to_tf_keras(model)
    with pytest.raises(KeyboardInterrupt), standing_in(model, bridged.model, bridged.pairs):
        raise KeyboardInterrupt
    assert "call" not in vars(model) and all(layer.name != "bridge_state" for layer in model._layers)


def test_what_the_other_model_has_beyond_is_kept_with_the_weights() -> None:
    model = net()
    bridged = to_tf_keras(model)
    extra = bridged.model.add_weight("range", shape=(2,), initializer="ones")
    written = bridged.model.add_weight("written", shape=(), initializer="ones")
    with standing_in(model, bridged.model, bridged.pairs, [written]):
        state = model.weights[-2:]
        assert [variable._value for variable in state] == [extra, written]
        assert [variable.trainable for variable in state] == [True, False]
        assert not all(layer.supports_jit for layer in model._flatten_layers())
        model.set_weights([*model.get_weights()[:-2], np.full(2, 5.0), np.float32(6.0)])
    assert np.array_equal(extra.numpy(), [5.0, 5.0]) and float(written) == 6.0


def test_a_sequential_with_dicts_and_several_outputs_keeps_its_structure() -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model({"a": a, "b": b}, {"one": L.Dense(2)(a + b), "two": L.Dense(1)(b)})
    bridged = to_tf_keras(model)
    given = {"a": np.ones((2, 3), "float32"), "b": np.zeros((2, 3), "float32")}
    plain = model(given)
    with standing_in(model, bridged.model, bridged.pairs):
        made = model(given)
        assert set(made) == {"one", "two"} and all(np.allclose(made[key], plain[key], atol=1e-6) for key in made)
    stack = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    crossed = to_tf_keras(stack)
    with standing_in(stack, crossed.model, crossed.pairs):
        assert stack(given["a"]).shape == (2, 2)


class _Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            raise KeyboardInterrupt


def test_an_interrupted_training_goes_on_over_the_bridge() -> None:
    training = Train(epochs=4, learning_rate=0.01)

    def run(callbacks: list[Any], key: str) -> tuple[list[np.ndarray], list[str]]:
        with recording.run("bridge", "bridge", {}, key, {}):
            student = training.private(net(), DATA)
            bridged = to_tf_keras(student, example=DATA.example(2))
            with standing_in(student, bridged.model, bridged.pairs):
                fitted = training.fit(student, DATA, callbacks)
        return student.get_weights(), fitted.notes

    straight, _ = run([], "a" * 64)
    with pytest.raises(KeyboardInterrupt):
        run([_Stop()], "b" * 64)
    resumed, notes = run([], "b" * 64)
    assert any("Resumed at epoch" in note for note in notes)
    assert all(np.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(straight, resumed, strict=True))
