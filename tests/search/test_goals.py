import math

import numpy as np
import pytest

import kdfuse as kf
from kdfuse.search.goals import front, make_goals, ranked


@pytest.fixture(scope="module")
def data():
    x = np.arange(40, dtype="float32").reshape(20, 2)
    return kf.Data(train=(x, np.arange(20) % 2), validation=(x[:4], np.arange(4) % 2))


def test_bare_names_mean_the_validation_split(data):
    goals = make_goals("accuracy", ("macs", "log_loss"), {"parameters": 10, "macro_f1": 0.5}, data)
    assert goals.objectives == ("validation/accuracy", "cost/macs", "validation/log_loss")
    assert goals.signs == (1, -1, -1)
    assert goals.limits == {"size/parameters": 10, "validation/macro_f1": 0.5}
    assert make_goals(None, None, None, data).objectives == make_goals((), [], None, data).objectives == ("validation/accuracy",)
    assert make_goals(None, "log_loss", None, data).objectives == ("validation/log_loss",)


def test_regression_wants_r2():
    x = np.arange(40, dtype="float32").reshape(20, 2)
    data = kf.Data(train=(x, x[:, 0]), validation=(x, x[:, 0]))
    assert make_goals(None, None, None, data).objectives == ("validation/r2",)
    with pytest.raises(ValueError, match="Use r2, rmse or mae"):
        make_goals(None, None, {"accuracy": 0.5}, data)


def test_of_several_outputs_one_is_named_where_there_is_no_mean():
    x = np.arange(40, dtype="float32").reshape(20, 2)
    y = {"a": np.arange(20) % 2, "b": x[:, 0]}
    data = kf.Data(train=(x, y), validation=(x, y))
    assert make_goals(("accuracy", "validation/b/r2"), None, None, data).objectives == ("validation/accuracy", "validation/b/r2")
    with pytest.raises(ValueError, match="name one: 'validation/<output>/r2'"):
        make_goals("r2", None, None, data)


def test_values_are_turned_so_that_more_is_better(data):
    goals = make_goals("accuracy", "macs", {"parameters": 10}, data)
    metrics = {"validation/accuracy": 0.5, "cost/macs": 7.0, "size/parameters": 11.0}
    assert goals.values(metrics) == (0.5, -7.0)
    assert goals.values({**metrics, "validation/accuracy": math.nan}) == (-math.inf, -7.0)
    with pytest.raises(KeyError, match="cost/macs"):
        goals.values({"validation/accuracy": 0.5})


def test_limits_follow_the_meaning_of_a_figure(data):
    goals = make_goals("accuracy", None, {"parameters": 10, "macro_f1": 0.5}, data)
    assert goals.broken({"size/parameters": 10, "validation/macro_f1": 0.5}) is None
    assert goals.broken({"size/parameters": 11}) == "11 parameters, and at most 10 were asked for."
    assert "at least 0.5" in goals.broken({"validation/macro_f1": 0.4})
    assert not goals.timed and make_goals("accuracy", "p50_ms", None, data).timed


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"maximize": "acuracy"}, ValueError, "'accuracy'"),
        ({"maximize": "test/accuracy"}, ValueError, "read once"),
        ({"limits": {"test/accuracy": 0.5}}, ValueError, "read once"),
        ({"maximize": "macs"}, ValueError, "lower is better"),
        ({"minimize": "accuracy"}, ValueError, "higher is better"),
        ({"maximize": ("accuracy", "validation/accuracy")}, ValueError, "twice"),
        ({"limits": {"parameters": "many"}}, TypeError, "a number for 'parameters'"),
        ({"limits": [("parameters", 5)]}, TypeError, "`limits`: expected a dict"),
        ({"maximize": 5}, TypeError, "`maximize`: expected a name"),
        ({"minimize": "rmse"}, ValueError, "the task is classification, which has no such figure"),
    ],
)
def test_bad_goals_say_what_is_wrong(data, asked, error, said):
    with pytest.raises(error, match=said):
        make_goals(asked.get("maximize"), asked.get("minimize"), asked.get("limits"), data)


def test_choosing_needs_a_validation_split():
    x = np.arange(40, dtype="float32").reshape(20, 2)
    with pytest.raises(ValueError, match="validation=0.1"):
        make_goals(None, None, None, kf.Data(train=(x, np.arange(20) % 2)))


def test_the_front_is_what_no_other_beats():
    points = [(1, 1), (2, 0), (0, 2), (1, 0), (2, 0), (0, 0)]
    assert front(points) == [1, 0, 2]
    assert front([(1,), (3,), (2,)]) == [1]
    assert front([]) == []


def test_fronts_come_one_after_another():
    points = [(0, 0), (1, 1), (2, 0), (0, 2), (1, 0)]
    assert ranked(points) == [2, 1, 3, 4, 0]


def test_the_front_agrees_with_the_definition_on_random_points():
    points = [tuple(row) for row in np.random.default_rng(0).integers(0, 6, (60, 3)).tolist()]
    beaten = [any(np.all(np.array(b) >= a) and np.any(np.array(b) > a) for b in points) for a in map(np.array, points)]
    assert {points[place] for place in front(points)} == {point for point, lost in zip(points, beaten, strict=True) if not lost}
