"""Folds: who is trained on what, and what it says of the rest."""

import keras
import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from kdfuse.data import Data
from kdfuse.ensemble.mixed.features import features_of
from kdfuse.ensemble.mixed.folds import divisions, out_of_fold, retrained
from kdfuse.splits import ArraySplit
from kdfuse.train import Train

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
LABELS = np.repeat([0, 1, 2, 3], [4, 6, 10, 20])
DATA = Data(train=(X, LABELS), validation=(X[::5], LABELS[::5]), test=(X, LABELS))
FAST = Train(epochs=2, optimizer="sgd", learning_rate=0.5, steps_per_execution=1, checkpoint=0)


def net(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(seed))])


def same(one, other):
    return all(np.array_equal(a, b) for pair, peer in zip(one, other, strict=True) for a, b in zip(pair, peer, strict=True))


def test_divisions_are_those_of_scikit_learn():
    split = ArraySplit(X, LABELS)
    expected = list(StratifiedKFold(4, shuffle=True, random_state=3).split(X, LABELS))
    assert same(divisions(split, "classification", 4, 3), expected)
    assert same(divisions(ArraySplit(X, np.eye(4)[LABELS]), "classification", 4, 3), expected)
    assert not same(divisions(split, "classification", 4, 4), expected)
    assert len(divisions(split, "classification", 20, 0)) == 20
    values = divisions(ArraySplit(X, X[:, :1]), "regression", 4, 3)
    assert same(values, list(KFold(4, shuffle=True, random_state=3).split(X)))
    assert len(divisions(ArraySplit(X[:5], np.arange(5)), "classification", 3, 0)) == 3


class Recorder:
    """A trainer that notes its rows; a model's bias becomes the number of its training."""

    def __init__(self):
        self.seen = []

    def private(self, model, data):
        return model

    def fit(self, model, data, callbacks=()):
        self.seen.append((model, data))
        model.set_weights([np.zeros((3, 4)), np.eye(4)[len(self.seen) % 4] * len(self.seen)])

    def public(self, model, data):
        return model


def test_each_row_is_predicted_by_members_that_have_not_seen_it():
    trainer, models = Recorder(), [net(0), net(1)]
    found = out_of_fold(models, DATA, trainer, 3, 7, lambda members: features_of(members, DATA, "logits", False).model)
    assert len(trainer.seen) == 6 and found.shape == (40, 8)
    for fold, (kept, held) in enumerate(divisions(DATA.train, DATA.task, 3, 7)):
        for place in range(2):
            _, data = trainer.seen[2 * fold + place]
            np.testing.assert_array_equal(data.train.x, X[kept])
            np.testing.assert_array_equal(data.validation.x, DATA.validation.x)
            assert data.test is None and data.classes == 4
            number = 2 * fold + place + 1
            np.testing.assert_array_equal(found[held, 4 * place : 4 * place + 4], np.tile(np.eye(4)[number % 4] * number, (len(held), 1)))


def test_a_copy_is_new_trained_and_compiled_as_the_member_is():
    model = net()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="own"))
    before = model.get_weights()
    rows = DATA.with_splits(validation=None)
    made = retrained(model, rows, FAST, 5)
    assert made._compile_config.config["loss"].name == "own" and not np.allclose(made.get_weights()[0], before[0])
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    chances = keras.ops.softmax(made(X))
    assert float(np.mean(np.argmax(chances, -1) == LABELS)) > 0.4

    trainer = Recorder()
    trainer.fit = lambda model, data: None
    a, b, c = (retrained(model, rows, trainer, seed).get_weights()[0] for seed in (5, 5, 6))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
