import time

import keras
import numpy as np
import pytest

from kdfuse.measure.latency import latency, untimed


def test_any_callable_is_timed_on_one_row():
    seen = []

    def function(batch):
        seen.append(batch.shape)
        time.sleep(0.002)
        return batch

    found = latency(function, np.zeros((7, 3)), repeats=20)
    assert set(seen) == {(1, 3)} and len(seen) == 23
    assert 2 <= found["latency/p50_ms"] <= found["latency/p95_ms"] < 200


def test_a_keras_model_is_quick_and_left_alone():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((2,), name="b")}
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.concatenate([inputs["a"], inputs["b"]])))
    model.compile("sgd", "mse")
    example = {"a": np.zeros((5, 4), "float32"), "b": np.zeros((5, 2), "float32")}
    start = time.perf_counter()
    found = latency(model, example)
    assert time.perf_counter() - start < 5  # about half a second, with room for a busy machine
    assert 0 < found["latency/p50_ms"] <= found["latency/p95_ms"]
    assert model.predict_function is None


def test_a_model_with_a_fixed_batch_size_gets_that_many_rows():
    inputs = keras.Input(batch_shape=(4, 5, 2))
    model = keras.Model(inputs, keras.layers.LSTM(3, stateful=True)(inputs))  # which takes no other number
    for rows in (1, 9):
        assert latency(model, np.zeros((rows, 5, 2), "float32"), repeats=3)["latency/p50_ms"] > 0


def test_a_slow_function_ends_in_time():
    calls = []
    found = latency(lambda batch: (calls.append(1), time.sleep(0.2))[0], np.zeros((1, 1)), repeats=1000)
    assert len(calls) <= 3 + 4 and found["latency/p50_ms"] > 190


def test_the_result_is_waited_for():
    class Later:
        """The result of a device that works on its own."""

        def numpy(self):
            time.sleep(0.01)
            return np.zeros(1)

    assert latency(lambda batch: Later(), np.zeros((1, 1)), repeats=5)["latency/p50_ms"] >= 10


def test_repeats():
    with pytest.raises(ValueError, match="`repeats`"):
        latency(lambda batch: batch, np.zeros((1, 1)), repeats=0)


def test_what_can_be_prepared_is_timed_without_the_way_in_and_out():
    class Prepared:
        rows, calls = [], 0

        def prepare(self, row):
            self.rows.append(row.shape)
            time.sleep(0.05)
            return self.invoke

        def invoke(self):
            self.calls += 1

    function = Prepared()
    found = latency(function, np.zeros((5, 3)), repeats=20)
    assert function.rows == [(1, 3)] and function.calls == 23 and found["latency/p95_ms"] < 40


def test_inside_untimed_nothing_is_called_and_nothing_told():
    def never(inputs):
        raise AssertionError

    with untimed():
        assert latency(never, np.zeros((1, 2))) == {}
    assert "latency/p50_ms" in latency(lambda inputs: inputs, np.zeros((1, 2)))
