"""Thresholds against every one that there is."""

import itertools

import numpy as np
import pytest

from kdfuse.ensemble.serial.thresholds import ALL, Stages, choose_thresholds, curve


def made(stages, rows=30, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    sure = rng.random((stages, rows)).round(2)
    right = (rng.random((stages, rows)) < 0.4 + 0.5 * sure + 0.1 * np.arange(stages)[:, None]).astype(float)
    return Stages(sure, right, np.array([1.0, 5.0, 20.0])[:stages], rng.random(rows) if weighted else np.ones(rows))


def by_hand(stages, thresholds):
    right = cost = 0.0
    for row, weight in enumerate(stages.weights):
        for stage in range(len(stages.sure)):
            cost += weight * stages.costs[stage]
            if stage == len(stages.sure) - 1 or stages.sure[stage, row] >= thresholds[stage]:
                right += weight * stages.right[stage, row]
                break
    return right / stages.weights.sum(), cost / stages.weights.sum()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_outcome_is_that_of_rows_leaving_one_by_one(weighted):
    stages = made(3, weighted=weighted)
    for thresholds in ((0.5, 0.5), (0.9, 0.1), (ALL, ALL), (-ALL, 0.3)):
        assert stages.outcome(thresholds) == pytest.approx(by_hand(stages, thresholds))
        assert stages.shares(thresholds).sum() == pytest.approx(1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_of_two_stages_none_is_better(seed, weighted):
    stages = made(2, seed=seed, weighted=weighted)
    every = [by_hand(stages, (one,)) for one in [-ALL, *np.unique(stages.sure), ALL]]
    goal = every[-1][0]
    accuracy, cost = stages.outcome(choose_thresholds(stages, goal, None))
    assert accuracy >= goal - 1e-9 and cost == pytest.approx(min(cost for accuracy, cost in every if accuracy >= goal - 1e-9))
    for budget in (3.0, 5.0):
        accuracy, cost = stages.outcome(choose_thresholds(stages, None, budget))
        assert cost <= budget + 1e-9 and accuracy == pytest.approx(max(accuracy for accuracy, cost in every if cost <= budget + 1e-9))


@pytest.mark.parametrize("seed", range(3))
def test_of_three_stages_none_is_better_either(seed):
    stages = made(3, seed=seed, weighted=seed == 2)
    every = [stages.outcome(pair) for pair in itertools.product(*([-ALL, *np.unique(one), ALL] for one in stages.sure[:2]))]
    goal = float(np.average(stages.right[-1], weights=stages.weights))
    accuracy, cost = stages.outcome(choose_thresholds(stages, goal, None))
    assert accuracy >= goal - 1e-9 and cost == pytest.approx(min(cost for accuracy, cost in every if accuracy >= goal - 1e-9))
    for budget in (2.0, 7.0):
        accuracy, cost = stages.outcome(choose_thresholds(stages, None, budget))
        assert cost <= budget + 1e-9 and accuracy == pytest.approx(max(accuracy for accuracy, cost in every if cost <= budget + 1e-9))


def test_of_more_stages_the_goal_and_the_budget_are_held():
    rng = np.random.default_rng(0)
    stages = Stages(rng.random((5, 80)), (rng.random((5, 80)) < 0.7).astype(float), np.array([1.0, 2, 4, 8, 16]), np.ones(80))
    goal = float(stages.right[-1].mean())
    accuracy, cost = stages.outcome(choose_thresholds(stages, goal, None))
    assert accuracy >= goal - 1e-9 and cost < 16
    accuracy, cost = stages.outcome(choose_thresholds(stages, None, 8.0))
    assert cost <= 8 + 1e-9 and accuracy > goal


def test_a_threshold_picks_the_same_rows_in_float32():
    one = np.float32(1)
    sure = np.array([[one, one - np.float32(2**-24), 0.5, 0.5 + 2**-22, 0.2]], "float32").astype("float64")
    stages = Stages(np.concatenate([sure, sure]), np.ones((2, 5)), np.array([1.0, 2.0]), np.ones(5))
    steps = [threshold for threshold, _, _ in curve(stages, (ALL,))]
    # Two rows that are next to each other in float32 are not told apart.
    assert [int((sure >= step).sum()) for step in steps] == [0, 2, 4, 5]
    for step in steps:
        np.testing.assert_array_equal(sure.astype("float32") >= np.float32(step), sure >= step)


def test_what_cannot_be_had_is_come_near():
    stages = made(2)
    assert stages.outcome(choose_thresholds(stages, 1.1, None))[0] == max(accuracy for _, accuracy, _ in curve(stages, (ALL,), 1000))
    assert stages.outcome(choose_thresholds(stages, None, 0.5))[1] == 1.0


def test_the_curve_goes_from_all_to_none():
    stages = made(2, rows=200)
    points = curve(stages, (ALL,), most=20)
    assert len(points) == 20 and points[0][0] == ALL and points[0][2] == 6.0 and points[-1][2] == 1.0
    for threshold, accuracy, cost in points:
        assert stages.outcome((threshold,)) == pytest.approx((accuracy, cost))
