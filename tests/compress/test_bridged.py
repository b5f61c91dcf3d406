"""What the techniques over the bridge share."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.bridge.to_tf_keras import to_tf_keras
from kdfuse.compress import bridged as way
from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.attention_transfer import AttentionTransfer
from kdfuse.distill.self_distill import SelfDistill
from kdfuse.train import Train

L = keras.layers
X, Y = load_digits(return_X_y=True)
DATA = Data(train=((X / 16).astype("float32"), Y), validation=0.1)


def net() -> keras.Model:
    return keras.Sequential([keras.Input((64,)), L.Dense(8, "relu", name="a"), L.Dense(10, name="b")])


def test_trainings_that_cannot_cross_are_refused() -> None:
    way.check_bridge_training(Train(precision="float32"))
    way.check_bridge_training(Distill(net()))
    for training, said in (
        (Train(strategy="mirrored"), "strategy"),
        (Train(precision="mixed_float16"), "precision"),
        (Distill(net(), training=Train(precision="mixed_bfloat16")), "precision"),
        (Distill(net(), (AttentionTransfer(teacher_layer_name="a", student_layer_name="a"),)), "do not run themselves"),
        (SelfDistill(("a",)), "do not run themselves"),
    ):
        with pytest.raises(ValueError, match=said):
            way.check_bridge_training(training)
    with pytest.raises(TypeError, match="`training`"):
        way.check_bridge_training("adam")  # type: ignore[arg-type]


def test_opaque_is_auto_or_names() -> None:
    way.check_opaque("auto")
    way.check_opaque(("a",))
    for wrong in ("a", ["a"], (1,), None):
        with pytest.raises(TypeError, match="`opaque`"):
            way.check_opaque(wrong)


def test_names_paths_and_patterns() -> None:
    known = ["trunk/conv1", "trunk/conv2", "head"]
    assert way.named(["conv*", "head"], known, "skip") == {"trunk/conv1": "conv*", "trunk/conv2": "conv*", "head": "head"}
    assert way.named(["trunk/conv1"], known, "skip") == {"trunk/conv1": "trunk/conv1"}
    with pytest.raises(ValueError, match="`skip`.*'conv9'.*trunk/conv1"):
        way.named(["conv9"], known, "skip")


def test_variables_know_their_layers_and_files_their_run() -> None:
    model = net()
    bridge = to_tf_keras(model)
    homes = way.layer_names(bridge)
    assert [(homes[id(weight)][0], homes[id(weight)][1].name) for weight in model.weights] == [("a", "a")] * 2 + [("b", "b")] * 2
    assert way.lite_path(model).parent.name == "unrecorded"
    with recording.run("one", "one", {}, None, {}) as run:
        assert way.lite_path(model).parent.name == run.id and way.lite_path(model).suffix == ".tflite"
    assert way.values(np.array([1.0, 1.0, 0.0])) == 2
    assert f"{model.count_params()} parameters" in way.bridge_notes(bridge)[0]


def test_a_check_leaves_the_model_alone() -> None:
    model = net()
    before = model.get_weights()
    assert way.check_crossing(model, DATA, "auto").difference <= 1e-6
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
