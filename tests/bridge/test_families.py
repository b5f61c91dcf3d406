"""The table of twins against what both packages really have."""

import inspect

import keras

from kdfuse.bridge.families import ACTIVATIONS, AS_THEY_ARE, INSIDE, TWINS
from kdfuse.bridge.imports import guests


def test_every_twin_is_there_and_takes_its_settings() -> None:
    for kind, settings in TWINS.items():
        assert hasattr(keras.layers, kind), kind
        ours = inspect.signature(getattr(keras.layers, kind).__init__).parameters
        twin = getattr(guests().tf_keras.layers, kind)
        theirs = {name for base in twin.__mro__ for name in inspect.signature(base.__init__).parameters}
        for entry in settings.split():
            old, _, new = entry.partition("=")
            assert old in ours or "kwargs" in ours, (kind, old)
            assert (new or old) in theirs or "kwargs" in theirs, (kind, new or old)


def test_activations_that_both_have_give_the_same() -> None:
    x = keras.ops.convert_to_tensor([[-3.0, -0.5, 0.0, 0.7, 4.0]])
    for name in ACTIVATIONS:
        theirs = getattr(guests().tf_keras.activations, "swish" if name == "silu" else name)
        assert float(keras.ops.max(keras.ops.abs(getattr(keras.activations, name)(x) - theirs(x)))) < 1e-6, name
    assert set(INSIDE) <= set(ACTIVATIONS)


def test_hard_sigmoid_is_another_function_and_is_left_out() -> None:
    x = keras.ops.convert_to_tensor([2.7])
    gap = keras.activations.hard_sigmoid(x) - guests().tf_keras.activations.hard_sigmoid(x)
    assert abs(float(gap[0])) > 0.04 and "hard_sigmoid" not in ACTIVATIONS


def test_layers_that_run_as_they_are_have_no_twin() -> None:
    assert not set(AS_THEY_ARE) & set(TWINS)
