import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kdfuse.graph.copy import copy_model
from kdfuse.graph.fingerprint import fingerprint, leaf


class Block(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(4)

    def call(self, inputs):
        return self.dense(inputs) * 2


def varied(built_before):
    for _ in range(built_before):
        keras.layers.Dense(2), keras.Input((2,)), keras.Sequential(), keras.layers.Add()
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, activation=lambda t: keras.ops.tanh(t))(inputs)
    x = Block()(keras.layers.Add()([x, keras.layers.Dense(4)(x)]))
    x = keras.layers.TimeDistributed(keras.layers.Dense(3))(keras.layers.Reshape((2, 2))(x))
    head = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    model = keras.Model(inputs, {"y": head(x)})
    for weight in model.weights:
        weight.assign(np.arange(np.prod(weight.shape)).reshape(weight.shape) * 0.1)
    return model


def build(units=5, activation="relu", name=None, rate=0.1):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4,))
    x = keras.layers.Dense(units, activation=activation, name=name)(x)
    x = keras.layers.Dropout(rate)(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def test_equal_in_another_process_whatever_was_built_before():
    here = fingerprint(varied(built_before=3))
    file = Path(__file__).resolve()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(file.parents[2]), str(file.parent)]), "PYTHONHASHSEED": "7"}
    script = f"import {file.stem} as t; print(t.fingerprint(t.varied(0)))"
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == here and len(here) == 64


def test_equal_for_equal_models():
    model = build()
    assert fingerprint(model) == fingerprint(build()) == fingerprint(copy_model(model))


def test_equal_for_two_loads(tmp_path):
    build().save(tmp_path / "a.keras")
    first, second = (keras.saving.load_model(tmp_path / "a.keras") for _ in range(2))
    assert fingerprint(first) == fingerprint(second) == fingerprint(build())


def test_compile_state_and_optimizer_do_not_count():
    model = build()
    before = fingerprint(model)
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((2, 4)), np.zeros((2, 3)), verbose=0, epochs=1)
    for weight, value in zip(model.weights, build().weights, strict=True):
        weight.assign(value)
    assert fingerprint(model) == before
    model(np.zeros((2, 4)), training=True)  # moves the state of the dropout's seed
    assert fingerprint(model) == before


def nudge(model):
    model.weights[-1].assign(model.weights[-1] + 1e-6)


def freeze(model):
    model.layers[1].trainable = False


@pytest.mark.parametrize("change", [nudge, freeze])
def test_differs_by_weights_and_flags(change):
    model = build()
    change(model)
    assert fingerprint(model) != fingerprint(build())


@pytest.mark.parametrize("settings", [{"activation": "tanh"}, {"name": "mine"}, {"rate": 0.2}, {"activation": lambda t: t}])
def test_differs_by_config(settings):
    assert fingerprint(build(**settings)) != fingerprint(build())


def test_lambdas_differ_by_what_they_do():
    def model(function):
        return keras.Sequential([keras.Input((2,)), keras.layers.Lambda(function)])

    assert fingerprint(model(lambda t: t + 1)) == fingerprint(model(lambda t: t + 1))
    assert fingerprint(model(lambda t: t + 1)) != fingerprint(model(lambda t: t + 2))


def test_wiring_counts():
    def model(swap):
        a, b = keras.Input((2,)), keras.Input((2,))
        first, second = keras.layers.Dense(2, kernel_initializer="ones")(a), keras.layers.Dense(2, kernel_initializer="ones")(b)
        return keras.Model([a, b], keras.ops.subtract(*((second, first) if swap else (first, second))))

    assert fingerprint(model(False)) == fingerprint(model(False)) != fingerprint(model(True))


def test_subclassed_without_a_config_counts_by_class_code_and_weights():
    def make(factor):
        class Opaque(keras.Model):
            def __init__(self, layer):
                super().__init__()
                self.layer = layer

            if factor == 1:

                def call(self, inputs):
                    return self.layer(inputs)
            else:

                def call(self, inputs):
                    return self.layer(inputs) * 2

        model = Opaque(keras.layers.Dense(2, kernel_initializer="ones"))
        model(np.zeros((1, 3)))
        return model

    assert fingerprint(make(1)) == fingerprint(make(1)) != fingerprint(make(2))


def test_a_lambda_without_source_still_tells_settings_apart():
    space = {"keras": keras}
    exec("def make(rate, units=3): return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, kernel_initializer='ones', "
         "activation=lambda t: t * 2), keras.layers.Dropout(rate)])", space)  # fmt: skip
    make = space["make"]
    assert fingerprint(make(0.1)) == fingerprint(make(0.1)) != fingerprint(make(0.2))


def test_leaf():
    model = build()
    assert leaf(model) == f"functional:{fingerprint(model)[:16]}"
    assert leaf(keras.Sequential([keras.layers.Dense(2)], name="teacher")).startswith("teacher:")
    assert leaf(np.zeros((2, 3))) == leaf(np.zeros((2, 3))) != leaf(np.zeros((3, 2)))
    assert leaf(np.zeros(3, "float32")) != leaf(np.zeros(3, "int32"))
    assert [leaf(value) for value in (None, 1, "x", keras.optimizers.Adam(), (1, 2))] == [None] * 5
