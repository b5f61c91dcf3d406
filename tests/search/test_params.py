import functools

import keras
import pytest

from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.fitting.decay import Cosine
from kdfuse.models.mlp import mlp
from kdfuse.search.params import builder_settings, check_names, merged, nested, reseeded, takes, technique_of
from kdfuse.technique import Chain
from kdfuse.train import Train

TEACHER = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


def test_the_settings_of_builders():
    def plain(data, width=3, *, depth):
        """Not called."""

    def loose(data, **settings):
        """Not called."""

    assert builder_settings(plain) == {"width": 3, "depth": None}
    assert builder_settings(functools.partial(plain, depth=2)) == {"width": 3, "depth": 2}
    assert builder_settings(mlp)["activation"] == "relu" and "data" not in builder_settings(mlp)
    assert takes(loose, "anything") and not takes(plain, "anything") and not takes(TEACHER, "anything") and not takes(3, "anything")


def test_the_technique_of_an_estimator():
    assert technique_of(None, None, {"training__epochs": 3, "build__units": 1}).epochs == 3
    training = Train(epochs=4)
    assert technique_of(None, training, {}) is training
    distill = technique_of(Distill(TEACHER), training, {"training__l2": 0.1, "technique__label_weight": 0.3})
    assert distill.training.epochs == 4 and distill.training.l2 == 0.1 and distill.label_weight == 0.3
    assert technique_of(Train(epochs=9), None, {"training__l2": 0.1}).l2 == 0.1
    chain = technique_of(Chain([Train()]), None, {"technique__techniques__0__epochs": 2})
    assert chain.techniques[0].epochs == 2


def test_what_makes_no_technique():
    with pytest.raises(TypeError, match="`technique`: expected a technique.*Received: 'sgd'"):
        technique_of("sgd", None, {})
    with pytest.raises(TypeError, match="`training`: expected a technique.*Received: 7"):
        technique_of(None, 7, {})
    for technique in (Chain([Train()]), Train()):
        with pytest.raises(TypeError, match=f"`training`: {type(technique).__name__} has no setting `training`"):
            technique_of(technique, Train(), {})


def test_nested_names_have_the_values_themselves():
    loss = SoftTargets(2.0)
    cosine = Cosine(warmup=1)
    found = nested(mlp, Distill(TEACHER, losses=[loss]), None, {"training__decay": cosine})
    assert found["training__decay"] is cosine and found["training__decay__warmup"] == 1
    assert (
        found["technique__teacher"] is TEACHER
        and found["technique__losses__0"] is loss
        and found["technique__losses__0__temperature"] == 2.0
    )
    assert found["training__epochs"] == Train().epochs and found["build__skip"] is False
    assert nested(-1, "x", [], {"build__units": 3}) == {"build__units": 3}


def test_a_part_is_changed_inside_the_whole_that_is_held():
    cosine = Cosine(warmup=2)
    held = merged({}, {"training__decay__warmup": 5, "training__decay": cosine, "build__units": 3})
    assert held["training__decay"].warmup == 5 and held["build__units"] == 3 and cosine.warmup == 2 and len(held) == 2
    assert merged({"training__decay__warmup": 5}, {"training__decay": cosine}) == {"training__decay": cosine}


def test_names_are_checked_as_far_as_the_parts_allow():
    check_names("Ours", ("build",), (mlp, None, None), {"build__units": 1, "training__epochs": 2})
    check_names("Ours", ("build",), (-1, None, None), {"build__anything": 1})
    check_names("Ours", ("build",), (mlp, None, None), {"training__decay": Cosine(), "training__epochs": 1})
    for name in ("build__", "training", "training__", "training__epochs__x", "other__x", "technique__x"):
        with pytest.raises(TypeError, match=f"Ours has no setting '{name}'"):
            check_names("Ours", ("build",), (mlp, None, None), {name: 1})


def test_every_seed_is_set():
    made = reseeded(Chain([Train(), Distill(TEACHER, training=Train(seed=3))]), 8)
    assert made.techniques[0].seed == 8 and made.techniques[1].training.seed == 8 and made.techniques[1].teacher is TEACHER
    chain = Chain([Train()])
    assert reseeded(chain, None) is chain
