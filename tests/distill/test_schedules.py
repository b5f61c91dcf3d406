"""Settings that change while a student is trained."""

from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.distill.distiller import Distiller
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.schedules import Clock, EpochClock, Schedule, Stop
from kdfuse.fitting.decay import Constant, Cosine, Linear, Plateau

EPOCHS, STEPS = 4, 5


def test_a_clock_moves_its_variables_at_every_step() -> None:
    knobs = {"label_weight": keras.Variable(0.5), "losses__0__temperature": keras.Variable(8.0)}
    clock = Clock((Schedule("label_weight", Linear()), Schedule("losses__0__temperature", Stop(at=0.5))), knobs, EPOCHS, STEPS)
    seen: list[list[float]] = []
    for epoch in range(EPOCHS):
        clock.set(epoch)
        for _ in range(STEPS):
            clock.step()
            seen.append([float(variable.numpy()) for variable in knobs.values()])
    at = np.arange(EPOCHS * STEPS) / STEPS
    np.testing.assert_allclose(np.array(seen)[:, 0], 0.5 * (1 - at / EPOCHS), atol=1e-6)
    np.testing.assert_array_equal(np.array(seen)[:, 1], np.where(at < 2 - 1e-6, 8.0, 0.0))


def test_without_known_steps_it_moves_from_epoch_to_epoch() -> None:
    knob = keras.Variable(1.0)
    clock = Clock((Schedule("label_weight", Constant(warmup=4.0)),), {"label_weight": knob}, EPOCHS, None)
    seen = []
    for epoch in range(EPOCHS):
        clock.set(epoch)
        for _ in range(3):
            clock.step()
            seen.append(float(knob.numpy()))
    np.testing.assert_allclose(seen, np.repeat([0.25, 0.5, 0.75, 1.0], 3))


def train(schedules: tuple[Schedule, ...], *, start: int = 0) -> tuple[Any, list[float]]:
    keras.utils.set_random_seed(0)
    x, y = np.random.default_rng(0).standard_normal((40, 6)).astype("float32"), np.arange(40) % 4

    def model(units: int) -> keras.Model:
        return keras.Sequential([keras.Input((6,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(4)])

    distiller = Distiller(model(3), [SoftTargets(4.0)], teacher=model(9), schedules=schedules, epochs=EPOCHS, steps=STEPS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss, steps_per_execution=STEPS)
    callbacks = [EpochClock()] if schedules else []
    distiller.fit(x, y, batch_size=8, epochs=EPOCHS, initial_epoch=start, shuffle=False, verbose=0, callbacks=callbacks)
    return distiller, [float(distiller.knobs[one.setting].numpy()) for one in schedules]


def test_in_a_fit_with_steps_that_run_together() -> None:
    last = 1 - 1 / (EPOCHS * STEPS)
    schedules = (Schedule("label_weight", Linear(final=0.2)), Schedule("losses__0__temperature", Cosine(final=0.5)))
    scheduled, found = train(schedules)
    assert found[0] == pytest.approx(0.5 * (1 - 0.8 * last), rel=1e-4)
    assert found[1] == pytest.approx(4 * (0.5 + 0.5 * 0.5 * (1 + np.cos(np.pi * last))), rel=1e-4)
    assert train(schedules, start=2)[1] == pytest.approx(found, rel=1e-5)  # the epoch counts, not the calls
    plain, _ = train(())
    assert not np.allclose(plain.student.get_weights()[0], scheduled.student.get_weights()[0])


def test_what_cannot_be_a_schedule() -> None:
    with pytest.raises(ValueError, match="a plateau follows a curve"):
        Schedule("label_weight", Plateau())
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        Schedule("label_weight", "cosin")
    with pytest.raises(TypeError, match="`setting` of Schedule"):
        Schedule(3)  # type: ignore[arg-type]
    for wrong in ({"at": 0}, {"at": float("nan")}, {"at": True}, {"warmup": -1}):
        with pytest.raises(ValueError, match="of Stop: expected a number"):
            Stop(**wrong)
