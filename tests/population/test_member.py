import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.population.member import Member
from kdfuse.population.plan import read
from kdfuse.population.rules import Rule
from kdfuse.population.targets import Target


@pytest.fixture(scope="module")
def data():
    return kf.datasets.load("digits")


class Nothing(Rule):
    def move(self, weights, gradient, rate, count):
        """No step."""


def loss(member, target, x, rows, shares):
    return member.step(x, rows, target, shares, Nothing(keras.optimizers.SGD(), member.weights.size), np.float32(0), 1)


def test_the_gradient_is_that_of_differences(data):
    model = kf.models.mlp(data, units=(5, 4), activation="tanh", batch_norm=True, seed=1)
    member = Member(read(model), 0.3, 0)
    target = Target(keras.losses.SparseCategoricalCrossentropy(from_logits=True), "linear", data.train.y, 10)
    rows, x = np.arange(12), data.train.x[:12].reshape(12, -1).astype("float32")
    shares = np.linspace(0.05, 0.15, 12).astype("float32")
    loss(member, target, x, rows, shares)
    found, draws = member.gradient.copy(), np.random.default_rng(0)
    for _ in range(5):
        way = draws.normal(size=found.size).astype("float32")
        way /= np.linalg.norm(way)
        start, ends = member.weights.copy(), []
        for sign in (1, -1):
            member.weights[...] = start + np.float32(sign * 1e-2) * way
            ends.append(loss(member, target, x, rows, shares))
        member.weights[...] = start
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float(found @ way), rel=2e-2, abs=2e-3)


def test_dropout_keeps_the_mean_and_its_share(data):
    model = kf.models.mlp(data, units=(400,), dropout=0.25, input_dropout=0.1, seed=1)
    member = Member(read(model), 0.0, 0)
    x = data.train.x[:20].reshape(20, -1).astype("float32")
    kept, _ = member._forward(x, np.random.default_rng(0))
    mask = kept[0][3]
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.75)}
    assert mask.mean() == pytest.approx(1.0, abs=0.02)
    assert (kept[0][0] == 0).mean() > (x == 0).mean()
    again, _ = member._forward(x, np.random.default_rng(0))
    assert np.array_equal(mask, again[0][3])


def test_outputs_are_those_of_the_model_and_come_back_into_it(data):
    model = kf.models.mlp(data, units=(6, 5), batch_norm=True, head="softmax", seed=1)
    x = data.validation.x
    member = Member(read(model), 0.0, 0)
    flat = x.reshape(len(x), -1).astype("float32")
    np.testing.assert_allclose(member.outputs(flat), np.asarray(model(x)), atol=1e-6)
    member.weights *= np.float32(1.5)
    member.moving[0][0] += np.float32(0.1)
    before = member.outputs(flat)
    member.write()
    np.testing.assert_allclose(np.asarray(model(x)), before, atol=1e-6)
