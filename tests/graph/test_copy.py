import keras
import numpy as np
import pytest

from kdfuse.graph.copy import copy_model

ops = keras.ops
SCALE = 3.0


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def mlp():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3)])


def convnet():
    x = inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("relu")(x)
    skip = x
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.add([x, skip])
    x = keras.layers.Dropout(0.5, seed=3)(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x)))


def several():
    """Shared between the outer and a nested model, a nested model called twice, plain operations, a dict of outputs."""
    shared = keras.layers.Dense(4, name="shared")
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, shared(inner_input), name="inner")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = shared(a) + inner(b) * 2.0 + inner(a)
    x = ops.concatenate([x, ops.relu(a)], axis=-1)[:, 1:]
    head = keras.Sequential([keras.layers.Dense(3), keras.layers.Softmax()], name="head")
    return keras.Model({"a": a, "b": b}, {"classes": head(x), "value": keras.layers.Dense(1, name="value")(x)})


def lambdas():
    x = inputs = keras.Input((6,))
    for factor in (1.0, 2.0):
        x = keras.layers.Lambda(lambda t, factor=factor: ops.tanh(t) * factor * SCALE)(x)
    x = keras.layers.TimeDistributed(keras.layers.Lambda(lambda t: t + SCALE))(keras.layers.Reshape((3, 2))(x))
    return keras.Model(inputs, keras.layers.Dense(2, activation=lambda t: t * SCALE)(keras.layers.Flatten()(x)))


def relu(t):
    return ops.maximum(t, -1.0)


def own_function_with_a_known_name():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation=relu)])


class Block(keras.layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first, self.second = keras.layers.Dense(units), keras.layers.Dense(units)

    def call(self, inputs):
        return self.second(ops.relu(self.first(inputs)))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Subclassed(keras.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units, self.scale, self.function = units, 1.0, ops.relu
        self.block, self.norm = Block(units), keras.layers.BatchNormalization()
        self.drop, self.out = keras.layers.Dropout(0.5), keras.layers.Dense(3)

    def call(self, inputs, training=None):
        x = self.norm(self.block(inputs), training=training) * self.scale
        return self.out(self.drop(self.function(x), training=training))


class Opaque(keras.Model):
    """Its argument cannot be put in a config."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


def custom_layer():
    x = inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(2)(Block(4)(x)))


def recurrent():
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = keras.layers.Bidirectional(keras.layers.LSTM(3, dropout=0.2))(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def mixed():
    x = inputs = keras.Input((6,))
    x = keras.layers.Dense(4, dtype="mixed_float16")(x)
    return keras.Model(inputs, keras.layers.Activation("softmax", dtype="float32")(x))


def normalised():
    layer = keras.layers.Normalization()
    layer.adapt(rows(30, 6) * 4 + 2)
    return keras.Sequential([keras.Input((6,)), layer, keras.layers.Dense(2)])


def words():
    lookup = keras.layers.StringLookup()
    lookup.adapt(np.array(["cat", "dog", "dog"]))
    inputs = keras.Input((2,), dtype="string")
    return keras.Model(inputs, keras.layers.Flatten()(keras.layers.Embedding(4, 3)(lookup(inputs))))


def subclassed():
    model = Subclassed(5, name="mine")
    model.scale, model.function, model.drop.rate = 3.0, ops.tanh, 0.2
    model(rows(2, 6))
    return model


KINDS = {
    mlp: (6,), convnet: (8, 8, 1), several: None, lambdas: (6,), own_function_with_a_known_name: (6,), custom_layer: (6,), recurrent: (5,),
    mixed: (6,), normalised: (6,), words: (2,), subclassed: (6,),
}  # fmt: skip


def example(build):
    if build is several:
        return {"a": rows(4, 4), "b": rows(4, 4, seed=1)}
    if build is words:
        import tensorflow as tf

        return tf.constant([["cat", "dog"], ["owl", "cat"]])
    if build is recurrent:
        return np.random.default_rng(0).integers(0, 9, (4, 5))
    return rows(4, *KINDS[build])


def snapshot(model):
    return ([keras.ops.convert_to_numpy(v).copy() for v in model.variables], [layer.trainable for layer in model._flatten_layers()],
            [layer.name for layer in model._flatten_layers()], model.compiled, model.optimizer, model.loss)  # fmt: skip


@pytest.mark.parametrize("build", KINDS, ids=lambda build: build.__name__)
def test_copy_is_equal_and_apart(build):
    model, x = build(), example(build)
    model(x, training=True)  # moves statistics and seed states away from what a fresh model has
    model.layers[-1].trainable = False
    model.compile("adam", "mse", jit_compile=False)
    before = snapshot(model)
    copied = copy_model(model, x)
    after = snapshot(model)
    for old, new in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(old, new)
    assert before[1:] == after[1:]

    assert type(copied) is type(model) and not copied.compiled
    assert copied.name == model.name
    assert [part.name for part in copied._flatten_layers()] == [part.name for part in model._flatten_layers()]
    assert [part.trainable for part in copied._flatten_layers()] == before[1]
    assert [part.dtype_policy.name for part in copied.layers] == [part.dtype_policy.name for part in model.layers]
    assert not {id(v) for v in copied.variables} & {id(v) for v in model.variables}
    for old, new in zip(before[0], copied.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
    assert [len(m.trainable_variables) for m in (model, copied)] == [len(model.trainable_variables)] * 2

    for training in (False, True):  # the states of the seeds are equal too, so dropout draws the same mask
        given, taken = model(x, training=training), copied(x, training=training)
        for one, other in zip(keras.tree.flatten(given), keras.tree.flatten(taken), strict=True):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
    for v in copied.variables:
        v.assign(keras.ops.zeros_like(v))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.weights[0]), before[0][0] if build is not words else model.weights[0])


def test_shared_layers_stay_shared():
    copied = copy_model(several())
    assert copied.get_layer("inner").get_layer("shared") is copied.get_layer("shared")
    assert len(copied.variables) == len(several().variables)


def test_a_copy_can_be_saved_and_trained(tmp_path):
    model = convnet()
    copied = copy_model(model)
    copied.compile("sgd", "sparse_categorical_crossentropy")
    copied.fit(rows(8, 8, 8, 1), np.arange(8) % 3, verbose=0)
    copied.save(tmp_path / "copy.keras")
    loaded = keras.saving.load_model(tmp_path / "copy.keras")
    np.testing.assert_allclose(loaded(rows(2, 8, 8, 1)), copied(rows(2, 8, 8, 1)), atol=1e-6)
    assert not model.compiled


def test_unbuilt_stays_unbuilt_without_an_example():
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    assert not copy_model(model).built
    built = copy_model(model, rows(2, 6))
    assert built.built and not model.built and built.output_shape[-1] == 2


def test_subclassed_without_an_example_is_built_from_its_shapes():
    model = subclassed()
    np.testing.assert_array_equal(copy_model(model)(rows(3, 6)), model(rows(3, 6)))


def test_functional_subclass_keeps_its_class():
    class Mine(keras.Model):
        pass

    inputs = keras.Input((3,))
    assert type(copy_model(Mine(inputs, keras.layers.Dense(2)(inputs)))) is Mine


def test_lambda_needs_no_lasting_unsafe_mode(tmp_path):
    model = lambdas()
    copy_model(model)
    model.save(tmp_path / "lambda.keras")
    with pytest.raises((ValueError, TypeError)):
        keras.saving.load_model(tmp_path / "lambda.keras")


def test_what_has_no_config_is_named_with_the_mend():
    model = Opaque(keras.layers.Dense(2))
    model(rows(2, 3))
    with pytest.raises(ValueError, match=r"Opaque.*get_config"):
        copy_model(model, rows(2, 3))


def test_a_config_that_forgets_an_argument_is_an_error():
    class Forgets(keras.layers.Layer):
        def __init__(self, units=2, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(units)

        def call(self, inputs):
            return self.dense(inputs)

        def get_config(self):
            return super().get_config()

    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match=r"Forgets.*get_config"):
        copy_model(keras.Model(inputs, Forgets(5)(inputs)))


def test_a_subclass_whose_argument_is_lost_is_an_error():
    class Loses(keras.Model):
        def __init__(self, units=4):
            super().__init__()
            self.dense = keras.layers.Dense(units)

        def call(self, inputs):
            return self.dense(inputs)

    model = Loses(5)  # Keras itself makes a config with units=4 here
    model(rows(2, 3))
    with pytest.raises(ValueError, match=r"Loses.*get_config"):
        copy_model(model, rows(2, 3))


def test_not_a_model():
    with pytest.raises(ValueError, match=r"expected a keras.Model"):
        copy_model(keras.layers.Dense(2))
