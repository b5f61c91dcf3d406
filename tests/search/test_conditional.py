import itertools

import numpy as np
import pytest
from scipy.stats import uniform
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from kdfuse.models.convnet import convnet
from kdfuse.models.mlp import mlp
from kdfuse.search.conditional import Conditional, applies
from kdfuse.search.estimator import KerasClassifier
from kdfuse.search.space import Float, Int

LINEAR, TREE = LogisticRegression(), DecisionTreeClassifier()
PIPE = Pipeline([("clf", LINEAR)])
SPACE = {"clf__max_depth": Int(2, 5), "clf": [LINEAR, TREE], "clf__C": Float(0.1, 10.0, log=True)}


def test_a_name_that_the_chosen_step_lacks_is_left_out():
    space = Conditional(PIPE, SPACE)
    values = {"clf": TREE, "clf__C": 1.0, "clf__max_depth": 3}
    assert space.params(values.__getitem__) == {"clf__max_depth": 3, "clf": TREE}
    assert space.params({**values, "clf": LINEAR}.__getitem__) == {"clf": LINEAR, "clf__C": 1.0}
    assert PIPE.named_steps["clf"] is LINEAR


def test_so_is_a_setting_that_the_chosen_builder_lacks():
    def loose(data, **settings):
        """Not called."""

    space = Conditional(KerasClassifier(), {"build": [mlp, convnet, loose], "build__filters": [(4,)], "training__epochs": [1, 2]})
    assert [sorted(one) for one in space.every(3)] == [
        *[["build", "training__epochs"]] * 2, *[["build", "build__filters", "training__epochs"]] * 4
    ]  # fmt: skip
    assert applies(Pipeline([("net", KerasClassifier(loose))]), "net__build__anything")
    assert not applies(Pipeline([("net", KerasClassifier(mlp))]), "net__build__anything")


def test_an_unknown_name_raises_with_the_near_ones():
    for name, near in (("clf__max_dept", "clf__max_depth"), ("clg", "clf")):
        with pytest.raises(ValueError, match=f"`space`: Pipeline has no parameter '{name}'.*'{near}'"):
            Conditional(PIPE, {**SPACE, name: [1]})


def test_draws_differ_from_each_other_and_depend_on_the_seed_alone():
    space = Conditional(PIPE, SPACE)
    first, again, other = (list(itertools.islice(space.drawn(seed), 8)) for seed in (0, 0, 1))
    assert first == again != other and len({space.mark(one) for one in first}) == 8
    few = Conditional(LINEAR, {"C": [1.0, 2.0, 3.0], "tol": 0.1})
    assert sorted(one["C"] for one in few.drawn(0)) == [1.0, 2.0, 3.0]


def test_a_grid_has_each_candidate_once():
    assert len(list(Conditional(PIPE, SPACE).every(3))) == 3 + 3


def test_values_survive_as_texts():
    space = Conditional(PIPE, {**SPACE, "clf__tol": uniform(0, 1), "clf__class_weight": [None, "balanced"]})
    params = {"clf": LINEAR, "clf__C": np.float64(2.5), "clf__tol": np.float64(0.25), "clf__class_weight": None}
    texts = space.texts(params)
    assert texts["clf__C"] == 2.5 and type(texts["clf__tol"]) is float and isinstance(texts["clf"], str)
    back = space.values(texts)
    assert back == params and back["clf"] is LINEAR
