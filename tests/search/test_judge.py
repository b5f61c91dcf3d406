import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.measure.measure import measure
from kdfuse.search.goals import make_goals
from kdfuse.search.judge import _at_once, judge, passed, structure


@pytest.fixture(scope="module")
def data():
    return kf.datasets.load("digits")


@pytest.fixture(scope="module")
def model(data):
    return kf.models.mlp(data, units=(6,))


def test_a_trial_is_judged_as_a_result_is_measured(data, model):
    goals = make_goals("accuracy", None, None, data)
    found, whole = judge(model, data, goals), measure(model, data, splits=("validation",), latency=False)
    assert found == pytest.approx({name: whole.metrics[name] for name in found})
    assert {"validation/accuracy", "validation/log_loss", "size/parameters", "size/nonzero", "cost/macs"} <= set(found)
    assert not any(name.startswith("test/") for name in found)


def test_known_outputs_are_not_computed_again(data, model):
    goals = make_goals("accuracy", "keras_bytes", None, data)
    outputs = np.asarray(model(data.validation.x))
    found = judge(model, data, goals, done=passed(outputs, data.validation))
    assert found["validation/log_loss"] == pytest.approx(judge(model, data, goals)["validation/log_loss"], rel=1e-5)
    assert found["size/keras_bytes"] > 0
    assert judge(model, data, goals, done=passed(outputs[:, ::-1], data.validation))["validation/accuracy"] != found["validation/accuracy"]


def test_latency_is_measured_where_it_is_a_goal(data, model):
    assert "latency/p50_ms" in judge(model, data, make_goals("accuracy", "p50_ms", None, data))
    assert "latency/p50_ms" not in judge(model, data, make_goals("accuracy", None, None, data))


def test_several_outputs_are_judged_together():
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    y = {"a": (x[:, 0] > 0).astype(int), "b": x[:, 1]}
    data = kf.Data(train=(x, y), validation=(x, y), task={"a": "binary", "b": "regression"})
    inputs = keras.Input((3,))
    outputs = {"a": keras.layers.Dense(1, activation="sigmoid", name="a")(inputs), "b": keras.layers.Dense(1, name="b")(inputs)}
    found = judge(keras.Model(inputs, outputs), data, make_goals("accuracy", None, None, data))
    assert {"validation/a/accuracy", "validation/b/r2", "validation/accuracy"} <= set(found)


def test_structure_is_known_before_training(data, model):
    assert structure(model, data) == {"size/parameters": 64 * 6 + 6 + 6 * 10 + 10, "cost/macs": 64 * 6 + 60}


def test_a_recurrent_network_is_judged_in_a_graph(data):
    rows = kf.Data(train=(data.train.x[..., 0], data.train.y), validation=0.2)
    assert _at_once(kf.models.recurrent(rows, units=3), rows) is None and _at_once(kf.models.mlp(data, units=2), data) is not None
