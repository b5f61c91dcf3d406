"""The key of a run and the folder of its state."""

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.home import home
from kdfuse.keys import forget, named_models, run_key, state_folder

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(240, 64)).astype("float32"), RNG.integers(0, 10, 240)
DATA = Data(train=(X[:200], Y[:200]), validation=(X[200:220], Y[200:220]), test=(X[220:], Y[220:]))


def net(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(10)])


def test_the_key_tells_runs_apart_and_is_the_same_for_equal_ones():
    base = run_key("Train", {"epochs": 1}, net(), DATA)
    assert base == run_key("Train", {"epochs": 1}, net(), DATA)
    other_data = Data(train=(X[:201], Y[:201]))
    others = [("Prune", {"epochs": 1}, net(), DATA), ("Train", {"epochs": 2}, net(), DATA), ("Train", {"epochs": 1}, net(1), DATA)]
    keys = {run_key(*given) for given in [*others, ("Train", {"epochs": 1}, net(), other_data)]}
    assert len(keys) == 4 and base not in keys
    assert state_folder(base).is_relative_to(home("state"))
    import tensorflow as tf

    assert run_key("Train", {}, net(), Data(train=tf.data.Dataset.from_tensor_slices((X, Y)).batch(8))) is None


def test_the_state_of_a_finished_run_is_dropped():
    folder = state_folder("a" * 64)
    folder.mkdir(parents=True)
    forget("a" * 64)
    forget(None)
    assert not folder.exists() and folder.name == "a" * 40


def test_models_are_found_in_tuples():
    first, second = net(0), net(1)
    found = dict(named_models({"teacher": first, "others": (second, "x", (first,)), "epochs": 3}))
    assert found == {"teacher": first, "others_0": second, "others_2_0": first}


def test_a_builder_is_known_by_its_name_and_its_code():
    data = Data(train=(X, Y))

    def small(data):
        return net(1)

    def large(data):
        return net(2)

    same = small
    large.__qualname__ = small.__qualname__
    keys = [run_key("RandomSearch", {}, build, data) for build in (small, large, same)]
    assert keys[0] == keys[2] != keys[1] and None not in keys
