import types

import keras
import pytest
import tensorflow as tf

from kdfuse.compress.training import check_afterwards, check_training, innermost, needs_steps_apart, refuse_tfmot, run_steps
from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.models.mlp import mlp
from kdfuse.train import Train

X, Y = [[0.0, 1.0]] * 70, [0, 1] * 35


def test_the_innermost_training_and_its_steps():
    data = Data(train=(X, Y))
    train = Train(epochs=3, batch_size=32)
    distill = Distill(mlp(data, units=(3,)), training=train)
    check_training(train)
    check_training(distill)
    assert innermost(distill) is train and run_steps(distill, data) == 9
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(10).filter(lambda x, y: True)
    assert run_steps(train, Data(train=stream)) is None


@pytest.mark.parametrize("wrong", [3, "train", Train, keras.optimizers.Adam(), None])
def test_what_is_no_trainer_is_refused(wrong):
    with pytest.raises(TypeError, match="`training`: expected kdfuse.Train"):
        check_training(wrong)


def test_xla_and_several_devices_need_steps_apart():
    on_cpu = not tf.config.list_physical_devices("GPU")
    assert needs_steps_apart(Train()) is not on_cpu
    assert needs_steps_apart(Train(jit=True)) and needs_steps_apart(Train(strategy="mirrored")) and not needs_steps_apart(Train(jit=False))


def like_tfmot(name, **values):
    """An object of a class that stands in a module of TFMOT, which is not imported here."""
    kind = type(name, (types.SimpleNamespace,), {"__module__": "tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule"})
    return kind(**values)


REFUSED = {
    "polynomial": (
        like_tfmot("PolynomialDecay", initial_sparsity=0.1, final_sparsity=0.8, begin_step=0, end_step=90, frequency=9, power=3),
        r"PolynomialDecay belongs to TFMOT.*Prune\(0.8, schedule=\S+Sparsity\(initial=0.1, begin=0, end=90, frequency=9, power=3\)",
    ),
    "constant": (
        like_tfmot("ConstantSparsity", target_sparsity=0.5, begin_step=1, end_step=-1, frequency=100),
        r"Prune\(0.5, schedule=kdfuse.ConstantSparsity\(begin=1, frequency=100\)\)",
    ),
    "callbacks": ([like_tfmot("UpdatePruningStep")], "UpdatePruningStep belongs to TFMOT.*needs no callback"),
    "class": (type(like_tfmot("PolynomialDecay")), "PolynomialDecay belongs to TFMOT"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_objects_of_tfmot_are_refused_with_what_takes_their_place(case):
    given, message = REFUSED[case]
    with pytest.raises(TypeError, match=message):
        refuse_tfmot("schedule", given)
    with pytest.raises(TypeError, match="`training`: "):
        check_training(given)


def test_what_a_changed_model_is_trained_with_afterwards():
    for training, control in ((None, False), ("auto", True), (Train(), True)):
        check_afterwards(training, control)
    for wrong in ("train", 3, Train):
        with pytest.raises(TypeError, match="'auto' or None. Received"):
            check_afterwards(wrong, False)
    with pytest.raises(ValueError, match="`control`: expected True or False"):
        check_afterwards(None, 1)
    with pytest.raises(ValueError, match="`control`: expected a `training`"):
        check_afterwards(None, True)
