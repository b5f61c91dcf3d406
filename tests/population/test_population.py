import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.fitting.checkpoint import read as read_state
from kdfuse.fitting.checkpoint import write as write_state
from kdfuse.population.population import LARGE, Population, why_not
from kdfuse.train import Train

ROWS = 210  # no multiple of a batch
RATED = {"epochs": 3, "optimizer": "nesterov", "learning_rate": 0.05, "decay": "exponential", "seed": 3}
CANDIDATES = [
    ({"units": (16,)}, Train(epochs=3, batch_size=32)),
    ({"units": (24,), "activation": "tanh"}, Train(epochs=3, optimizer="sgd", learning_rate=0.1, decay="cosine", l2=0.01)),
    ({"units": (12, 9), "activation": "gelu", "batch_norm": True}, Train(epochs=3, optimizer="rmsprop", decay="staircase")),
    ({"units": (8, 8, 8), "activation": "leaky_relu"}, Train(**RATED)),
    ({"units": (), "head": "softmax"}, Train(epochs=3, batch_size=64, optimizer="adamw", learning_rate=0.01)),
]


@pytest.fixture(scope="module")
def data():
    digits = kf.datasets.load("digits")
    weights = np.linspace(0.5, 1.5, ROWS).astype("float32")
    return kf.Data((digits.train.x[:ROWS], digits.train.y[:ROWS], weights), (digits.validation.x, digits.validation.y))


@pytest.fixture(scope="module")
def few():
    digits = kf.datasets.load("digits")
    return kf.Data((digits.train.x[:100], digits.train.y[:100]), (digits.validation.x, digits.validation.y))


@pytest.fixture(scope="module")
def models(data):
    return [kf.models.mlp(data, seed=place, **settings) for place, (settings, _) in enumerate(CANDIDATES)]


@pytest.fixture(scope="module")
def trained(models, data):
    """Outputs and curves of each candidate by Keras's own fit."""
    found = []
    for model, (_, training) in zip(models, CANDIDATES, strict=True):
        student = training.private(model, data)
        fitted = training.fit(student, data.with_splits(validation=None))
        found.append((np.asarray(student(data.validation.x)), fitted.history["train/loss"]))
    return found


def begin(models, data, places=(0, 1, 2, 3, 4)):
    trainings = [CANDIDATES[place][1] for place in places]
    private = [training.private(models[place], data) for place, training in zip(places, trainings, strict=True)]
    return Population(private, trainings, data), private


def test_each_member_trains_as_fit_trains_it(models, data, trained):
    assert [why_not(model, training, data) for model, (_, training) in zip(models, CANDIDATES, strict=True)] == [None] * len(models)
    population, private = begin(models, data)
    population.advance(3)
    population.write()
    outputs = population.outputs(data.validation)
    for place, (expected, curve) in enumerate(trained):
        np.testing.assert_allclose(outputs[place], expected, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(np.asarray(private[place](data.validation.x)), expected, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(population.curves[place]["train/loss"], curve, rtol=1e-4)


def test_survivors_go_on_as_if_nobody_had_left(models, data):
    whole, _ = begin(models, data)
    whole.advance(3)
    halved, _ = begin(models, data)
    halved.advance(1)
    halved.keep([3, 1])
    halved.advance(2)
    assert halved.epoch == 3
    assert np.array_equal(halved.outputs(data.validation), whole.outputs(data.validation)[[3, 1]])
    assert halved.curves == [whole.curves[3], whole.curves[1]]


def test_nobody_minds_the_dropout_of_another(models, data):
    alone, _ = begin(models, data, [0])
    alone.advance(2)
    drops = kf.models.mlp(data, units=(16,), dropout=0.5)
    both = Population([drops, CANDIDATES[0][1].private(models[0], data)], [Train(epochs=3, batch_size=32)] * 2, data)
    both.advance(2)
    assert np.array_equal(both.outputs(data.validation)[1], alone.outputs(data.validation)[0])
    assert both.curves[0]["train/loss"][0] > both.curves[0]["train/loss"][-1]


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_other_tasks_train_as_fit_trains_them(task):
    draws = np.random.default_rng(0)
    x = draws.normal(size=(70, 3)).astype("float32")
    y = (x[:, 0] > 0).astype(int) if task == "binary" else x[:, :2] @ np.array([[1.0, 0.5], [2.0, -1.0]])
    data = kf.Data((x, y), (x, y), task=task)
    training, model = Train(epochs=2), kf.models.mlp(data, units=(5,), activation="silu")
    assert why_not(model, training, data) is None
    mine, theirs = training.private(model, data), training.private(model, data)
    population = Population([mine], [training], data)
    population.advance(2)
    training.fit(theirs, data)
    np.testing.assert_allclose(population.outputs(data.validation)[0], np.asarray(theirs(x)), atol=1e-5)


def test_what_diverges_says_so_in_its_outputs(data):
    training = Train(epochs=2, optimizer="sgd", learning_rate=1e30)
    population = Population([kf.models.mlp(data, units=(5,))], [training], data)
    population.advance(2)
    assert not np.isfinite(population.outputs(data.validation)).all()


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (Train(stopping=kf.Stopping("train/accuracy")), "`stopping`"),
        (Train(decay="plateau"), "watches"),
        (Train(optimizer="nadam"), "Nadam"),
        (Train(class_weight="balanced"), "`class_weight`"),
        (Train(precision="mixed_bfloat16"), "`precision`"),
        (Train(loss="mean_squared_error"), "loss"),
        (kf.Calibrate(), "not Train"),
    ],
)
def test_a_training_that_has_more_says_what(models, data, training, said):
    assert said in why_not(models[0], training, data)


def test_models_and_data_that_do_not_fit_say_why(data):
    assert "neither dense" in why_not(kf.models.convnet(data, layers=1, filters=2), Train(), data)
    assert f"{LARGE:,}" in why_not(kf.models.mlp(data, units=(1200, 1600)), Train(), data)


def test_a_schedule_and_rows_of_another_shape_are_refused(few):
    model = kf.models.mlp(few, units=(4,))
    scheduled = Train(optimizer=keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)))
    assert "schedule" in why_not(model, scheduled, few)
    flat = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    assert "shape" in why_not(flat, Train(), few)


def test_targets_that_the_loss_cannot_take_are_left_to_keras(few):
    training = Train(loss=keras.losses.MeanSquaredError())
    assert "MeanSquaredError wants targets of 10 columns" in why_not(kf.models.mlp(few, units=4), training, few)


def test_weights_in_a_column_are_those_in_a_row(few):
    x, y, _ = few.train.head(100)
    weights, model = np.linspace(0.5, 1.5, 100), kf.models.mlp(few, units=(4,))
    found = []
    for given in (weights, weights[:, None]):
        own = kf.Data((x, y, given), few.validation)
        population = Population([Train().private(model, own)], [Train()], own)
        population.advance(1)
        found.append(population.outputs(own.validation))
    assert np.array_equal(*found)


def test_a_state_goes_on_exactly(few, tmp_path):
    trainings = [Train(epochs=3), Train(epochs=3, optimizer="sgd", learning_rate=0.1, decay="cosine")]

    def begin():
        models = [kf.models.mlp(few, units=(8,), dropout=0.4, batch_norm=True, seed=seed) for seed in (1, 2)]
        return Population(models, trainings, few)

    whole, killed, again = begin(), begin(), begin()
    whole.advance(3)
    killed.advance(1)
    write_state(tmp_path / "state", killed.state())
    again.restore(read_state(tmp_path / "state"))
    again.advance(2)
    assert np.array_equal(again.outputs(few.validation), whole.outputs(few.validation))
    assert again.curves == whole.curves and again.epoch == 3
    again.keep([1])
    with pytest.raises(ValueError, match="other members"):
        again.restore(killed.state())
