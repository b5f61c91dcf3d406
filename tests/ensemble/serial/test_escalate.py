"""Only unsure rows are asked on, at run time, inside the graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.ensemble.serial.confidence import confidence
from kdfuse.ensemble.serial.escalate import Escalate
from kdfuse.export.export import export_model, load
from kdfuse.graph.macs import count_macs

L = keras.layers
X = np.random.default_rng(0).random((16, 4)).astype("float32")


@keras.saving.register_keras_serializable("test_escalate")
class Counting(L.Layer):
    """Counts the rows it sees."""

    def build(self, shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False)

    def call(self, x):
        self.seen.assign_add(keras.ops.shape(x)[0])
        return x


def asked(columns=3):
    keras.utils.set_random_seed(0)
    counting = Counting()
    given = keras.Input((4,))
    return keras.Model(given, L.Dense(columns, "softmax")(counting(given))), counting


def cascade(threshold, measure="max_probability"):
    large, counting = asked()
    given = keras.Input((4,))
    small = keras.layers.Softmax()(10 * given[:, :3])
    return keras.Model(given, Escalate(large, threshold, measure)((given, small))), large, counting


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9, 1.01])
def test_each_row_is_answered_by_the_stage_that_its_confidence_picks(threshold):
    model, large, counting = cascade(threshold)
    small = np.asarray(keras.ops.softmax(10 * X[:, :3]))
    unsure = small.max(-1) < threshold
    want = np.where(unsure[:, None], large(X), small)
    counting.seen.assign(0)
    np.testing.assert_allclose(model(X), want, atol=1e-6)
    assert int(counting.seen) == unsure.sum()
    np.testing.assert_allclose(tf.function(model)(tf.constant(X)), want, atol=1e-6)
    assert int(counting.seen) == 2 * unsure.sum()
    for row in range(4):
        counting.seen.assign(0)
        np.testing.assert_allclose(model(X[row : row + 1]), want[row : row + 1], atol=1e-6)
        assert int(counting.seen) == unsure[row]
    for size in (1, 3, 5):
        np.testing.assert_allclose(model.predict(X, batch_size=size, verbose=0), want, atol=1e-6)


def test_other_measures_pick_other_rows():
    counts = set()
    for measure in ("max_probability", "margin", "entropy"):
        model, _, counting = cascade(0.6, measure)
        counting.seen.assign(0)
        model(X)
        counts.add(int(counting.seen))
    assert len(counts) == 3


def test_it_is_saved_in_all_formats(tmp_path):
    model, _, _ = cascade(0.8)
    want = np.asarray(model(X))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(X), want)
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(served.serve(X), want, atol=1e-6)


def plain(columns, seed):
    keras.utils.set_random_seed(seed)
    given = keras.Input((6, 6, 1))
    hidden = L.GlobalAveragePooling2D()(L.BatchNormalization()(L.Conv2D(5, 3, activation="relu")(given)))
    return keras.Model(given, {"class": L.Dense(columns, "softmax")(hidden), "yes": L.Dense(1, "sigmoid")(hidden)})


@pytest.mark.parametrize("asked", [0, 5, 9])
def test_a_lite_file_asks_on_as_the_model_does(asked, tmp_path):
    rows = np.random.default_rng(1).random((9, 6, 6, 1)).astype("float32")
    given, small, heads = keras.Input((6, 6, 1)), plain(2, 1), ("softmax", "sigmoid")
    sure = np.sort(np.asarray(confidence("max_probability", keras.tree.flatten(small(rows)), list(heads))))
    threshold = {0: 0.0, 9: 1.01}.get(asked, (sure[asked - 1] + sure[asked % 9]) / 2)
    model = keras.Model(given, Escalate(plain(2, 0), threshold, heads=heads)((given, small(given))))
    assert (np.abs(np.asarray(model(rows)["class"]) - np.asarray(small(rows)["class"])).max(-1) > 0).sum() == asked
    served = load(export_model(model, tmp_path / "m.tflite", data=rows))
    for size in (1, 4, 9):
        made, want = served(rows[:size]), model(rows[:size])
        for name in want:
            np.testing.assert_allclose(made[name], want[name], atol=1e-6)


def test_int8_is_refused_for_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="without loops and branches for 'int8'"):
        export_model(cascade(0.8)[0], tmp_path / "m.tflite", quantize="int8", data=X)


def test_its_cost_is_at_most_that_of_all_models_and_xla_leaves_it_alone():
    model, _, _ = cascade(0.8)
    assert count_macs(model) == 4 * 3
    assert not all(layer.supports_jit for layer in model._flatten_layers())


def test_gradients_reach_both_stages():
    large, _ = asked()
    given = keras.Input((4,))
    features = L.Dense(4, name="features")(given)
    model = keras.Model(given, Escalate(large, 0.8)((features, L.Softmax()(10 * features[:, :3]))))

    def gradients():
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(model(tf.constant(X)) ** 2)
        return tape.gradient(value, model.trainable_variables)

    found = gradients()
    assert len(found) == 4 and all(float(np.abs(one).sum()) > 0 for one in found)
    for one, traced in zip(found, tf.function(gradients)(), strict=True):  # a branch in a graph is not one run at once
        np.testing.assert_allclose(traced, one, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="measure"):
        Escalate(large, 0.5, "doubt")
