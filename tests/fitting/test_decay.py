import keras
import numpy as np
import pytest

from kdfuse.fitting.decay import Constant, Cosine, DecaySchedule, Exponential, Linear, Plateau, Restarts, Staircase, make_decay, needs_steps

STEPS, EPOCHS = 5, 8


def rates(decay):
    schedule = DecaySchedule(0.1, decay, STEPS, EPOCHS)
    return np.array([float(schedule(step)) for step in range(STEPS * EPOCHS)])


EPOCH = np.arange(STEPS * EPOCHS) / STEPS


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        (Constant(), np.full_like(EPOCH, 0.1)),
        (Exponential(rate=0.5, every=2.0), 0.1 * 0.5 ** (EPOCH / 2)),
        (Staircase(rate=0.1, at=(0.5, 0.75)), 0.1 * 0.1 ** ((EPOCH >= 4).astype(int) + (EPOCH >= 6))),
        (Staircase(rate=0.2, at=(3, 5)), 0.1 * 0.2 ** ((EPOCH >= 3).astype(int) + (EPOCH >= 5))),
        (Linear(final=0.25), 0.1 * (1 - 0.75 * EPOCH / EPOCHS)),
        (Linear(final=3.0), 0.1 * (1 + 2 * EPOCH / EPOCHS)),
        (Restarts(cycles=2), 0.1 * 0.5 * (1 + np.cos(np.pi * (EPOCH % (EPOCHS / 2)) / (EPOCHS / 2)))),
        (Cosine(final=0.1), 0.1 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * EPOCH / EPOCHS)))),
    ],
)
def test_schedules_equal_their_formula(decay, expected):
    np.testing.assert_allclose(rates(decay), expected, rtol=2e-5)


def test_warm_up_rises_linearly_and_the_cosine_runs_after_it():
    found = rates(Cosine(warmup=2.0))
    np.testing.assert_allclose(found[:10], 0.1 * np.arange(1, 11) / 10, rtol=1e-5)
    np.testing.assert_allclose(found[10:], 0.1 * 0.5 * (1 + np.cos(np.pi * (EPOCH[10:] - 2) / 6)), rtol=2e-5)


def test_schedules_go_through_a_config_and_into_an_optimizer():
    schedule = DecaySchedule(0.1, Staircase(at=(0.25,), warmup=1.0), STEPS, EPOCHS)
    again = DecaySchedule.from_config(schedule.get_config())
    assert [float(again(step)) for step in range(40)] == [float(schedule(step)) for step in range(40)]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(DecaySchedule(0.5, Exponential(0.1), 1, 3)), "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, batch_size=4, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.5 * 0.1**2)


def test_names_and_wrong_values():
    assert isinstance(make_decay("staircase"), Staircase)
    assert not needs_steps(make_decay("constant")) and needs_steps(make_decay("cosine")) and not needs_steps(Plateau())
    assert needs_steps(Constant(warmup=1.0))
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        make_decay("cosin")
    with pytest.raises(TypeError, match="`decay`"):
        make_decay(0.1)
    for wrong in (lambda: Exponential(rate=0.0), lambda: Exponential(every=0), lambda: Cosine(warmup=-1), lambda: Plateau(patience=0),
                  lambda: Staircase(at=(0.0,)), lambda: Cosine(final=float("nan")), lambda: Restarts(cycles=0)):  # fmt: skip
        with pytest.raises(ValueError, match="Received"):
            wrong()
