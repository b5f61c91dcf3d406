"""Schedules of sparsity: the formula of the paper, the steps, and what does not fit into a run. TFMOT's are compared in test_pruner.py."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.compress.schedules import NEVER, ConstantSparsity, IterativeSparsity, PolynomialSparsity, make_schedule


def test_polynomial_is_the_formula_of_the_paper():
    plan = PolynomialSparsity(initial=0.2, begin=10, end=110, frequency=5, power=3.0).plan(200)
    for step in (10, 35, 60, 110, 150):
        passed = min(max((step - 10) / 100, 0), 1)
        assert plan.sparsity(step, 0.9) == pytest.approx(0.9 + (0.2 - 0.9) * (1 - passed) ** 3, rel=1e-6)
    due = [step for step in range(1, 201) if plan.due(step)]
    assert due == list(range(10, 111, 5)) and plan.reached == 110
    other = PolynomialSparsity(initial=0.2, begin=10, end=110, frequency=5, power=1.0).plan(200)
    assert other.sparsity(60, 0.9) == pytest.approx(0.55)


def test_due_works_on_tensors_as_on_numbers():
    for plan in (
        PolynomialSparsity(begin=3, end=15, frequency=4).plan(20),
        ConstantSparsity(4, None, 3).plan(20),
        ConstantSparsity().plan(20),
    ):
        assert [bool(plan.due(tf.constant(step, tf.int64))) for step in range(1, 21)] == [bool(plan.due(step)) for step in range(1, 21)]


def test_shares_are_of_the_run_and_the_last_masks_reach_the_end():
    plan = PolynomialSparsity(begin=0.1, end=0.5).plan(1000)
    assert (plan.begin, plan.end, plan.frequency) == (100, 500, 4) and plan.due(plan.reached)
    plan = PolynomialSparsity(end=0.6).plan(340)
    assert (plan.begin, plan.frequency) == (1, 2) and plan.end == 203 and plan.due(203) and plan.sparsity(203, 0.9) == pytest.approx(0.9)
    assert PolynomialSparsity(begin=1, end=1000).plan(1000).frequency == 9  # 999 = 9 * 111: a divisor near a hundredth
    assert PolynomialSparsity(end=1.0).plan(50).reached == 50


def test_constant_makes_its_masks_once_or_again_and_again():
    assert [step for step in range(20) if ConstantSparsity().plan(19).due(step)] == [1]
    assert [step for step in range(20) if ConstantSparsity(begin=0.5).plan(20).due(step)] == [10]
    assert [step for step in range(1, 20) if ConstantSparsity(begin=0, frequency=6).plan(19).due(step)] == [6, 12, 18]
    assert [step for step in range(1, 20) if ConstantSparsity(begin=2, end=9, frequency=3).plan(19).due(step)] == [2, 5, 8]
    assert ConstantSparsity(begin=2, end=9, frequency=3).plan(19).sparsity(2, 0.75) == 0.75
    assert not any(NEVER.due(step) for step in range(1, 9))


@pytest.mark.parametrize("plan", [ConstantSparsity(2, 9, 3).plan(19), ConstantSparsity(3).plan(19), ConstantSparsity(0, None, 4).plan(19)])
def test_last_is_the_last_step_that_was_due(plan):
    for step in range(1, 20):
        assert plan.last(step) == max([0, *(one for one in range(1, step + 1) if plan.due(one))])


def test_rounds_prune_the_same_part_of_what_is_left():
    schedule = IterativeSparsity(4)
    left = [1 - schedule.sparsity(number, 0.9) for number in range(5)]
    np.testing.assert_allclose(np.divide(left[1:], left[:-1]), 0.1**0.25)
    assert schedule.sparsity(4, 0.9) == 0.9


def test_a_stream_of_unknown_length_needs_steps():
    with pytest.raises(ValueError, match=r"`end`: a share of the run needs to know its steps.*assert_cardinality"):
        PolynomialSparsity(begin=1).plan(None)
    assert PolynomialSparsity(begin=1, end=101).plan(None).reached == 101 and ConstantSparsity().plan(None).reached == 1


TOO_LONG = {
    "polynomial": (
        PolynomialSparsity(begin=0, end=101, frequency=1),
        r"`schedule`: PolynomialSparsity goes on to step 101, and the run has 100",
    ),
    "constant": (ConstantSparsity(begin=101), "`schedule`: ConstantSparsity goes on to step 101"),
    "constant, end": (ConstantSparsity(1, 150, 2), "`schedule`: ConstantSparsity goes on to step 150"),
    "constant, from 0": (ConstantSparsity(0, None, 101), "`schedule`: ConstantSparsity goes on to step 101"),
    "no steps": (PolynomialSparsity(begin=0.5, end=0.5), "`end` of PolynomialSparsity: expected a step after `begin`"),
    "before the first": (ConstantSparsity(begin=5, end=3, frequency=1), "`end` of ConstantSparsity: expected a step from the first"),
    "short": (PolynomialSparsity(begin=0, end=50, frequency=7), r"`frequency` .* expected a divisor of end - begin = 50.*Give end=49"),
}


@pytest.mark.parametrize("case", TOO_LONG)
def test_what_does_not_fit_into_the_run_raises(case):
    schedule, message = TOO_LONG[case]
    with pytest.raises(ValueError, match=message):
        schedule.plan(100)


WRONG = {
    "begin": (lambda: PolynomialSparsity(begin=-1), "`begin` of PolynomialSparsity"),
    "a share above 1": (lambda: PolynomialSparsity(end=1.5), "`end` of PolynomialSparsity"),
    "frequency": (lambda: ConstantSparsity(frequency=0), "`frequency` of ConstantSparsity"),
    "initial": (lambda: PolynomialSparsity(initial=1.0), "`initial` of PolynomialSparsity"),
    "power": (lambda: PolynomialSparsity(power=0), "`power` of PolynomialSparsity"),
    "rounds": (lambda: IterativeSparsity(0), "`rounds` of IterativeSparsity"),
    "rewind": (lambda: IterativeSparsity(rewind="weight"), "`rewind`: .*Did you mean 'weights'"),
    "name": (lambda: make_schedule("polynomal"), "`schedule`: .*Did you mean 'polynomial'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_raise(case):
    make, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_names_and_objects():
    assert isinstance(make_schedule("constant"), ConstantSparsity) and isinstance(make_schedule("iterative"), IterativeSparsity)
    one = PolynomialSparsity()
    assert make_schedule(one) is one
    with pytest.raises(TypeError, match="`schedule`: expected one of"):
        make_schedule(3)
