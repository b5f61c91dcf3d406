"""Trainers: what is one, and copies of one with other settings."""

import keras
import pytest

from kdfuse.distill.distill import Distill
from kdfuse.ensemble.parallel.training import check_training, innermost, refuse_stopping, with_train
from kdfuse.fitting.stopping import Stopping
from kdfuse.train import Train

TEACHER = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


def test_what_is_a_training():
    for training in (Train(), Distill(TEACHER)):
        check_training(training)
    for other in (None, Train, 3, "train"):
        with pytest.raises(TypeError, match="`training`: expected kdfuse.Train"):
            check_training(other)


def test_settings_of_the_innermost_train_are_replaced_and_all_else_stays():
    given = Distill(TEACHER, label_weight=0.2, training=Train(epochs=3, seed=4))
    made = with_train(given, seed=7)
    assert isinstance(made, Distill) and made.label_weight == 0.2 and made.teacher is TEACHER
    assert (innermost(made).seed, innermost(made).epochs, innermost(given).seed) == (7, 3, 4)
    assert with_train(Train(epochs=2), epochs=5).epochs == 5


def test_stopping_is_refused_where_it_is_asked_for():
    refuse_stopping("Soup", Train(), "it matters")
    with pytest.raises(ValueError, match="`training` of Soup: expected no `stopping`, for it matters.*Leave it out"):
        refuse_stopping("Soup", Distill(TEACHER, training=Train(stopping=Stopping())), "it matters")
