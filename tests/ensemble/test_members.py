"""Members: private copies with names of their own, and which models can be members of one ensemble."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.ensemble.members import check_members, flat_heads, free_name, output_names, take
from kdfuse.graph.fingerprint import fingerprint

L = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 6)).astype("float32"), RNG.integers(0, 3, 40)
DATA = Data(train=(X, Y), validation=(X, Y))


def net(units=3, activation=None, name="net", columns=6):
    return keras.Sequential([keras.Input((columns,)), L.Dense(units, activation)], name=name)


def test_copies_are_private_and_have_names_of_their_own():
    models = [net(), net(activation="softmax"), net(name="other")]
    before = [fingerprint(one) for one in models]
    members = take(models, DATA)
    assert [one.model.name for one in members] == ["net", "net_2", "other"]
    assert [one.head for one in members] == ["logits", "softmax", "logits"] and flat_heads(members[0]) == ["softmax"]
    members[0].model.set_weights([0 * weight for weight in members[0].model.get_weights()])
    assert [fingerprint(one) for one in models] == before and [one.name for one in models] == ["net", "net", "other"]


def test_free_names():
    taken = {"a", "a_2"}
    assert [free_name("a", taken), free_name("b", taken), free_name("a", taken)] == ["a_3", "b", "a_4"]


def test_several_outputs_have_a_head_each():
    given = keras.Input((6,))
    model = keras.Model(given, {"digit": L.Dense(3, name="digit")(given), "even": L.Dense(1, "sigmoid", name="even")(given)})
    data = Data(train=(X, {"digit": Y, "even": Y % 2}))
    assert flat_heads(take([model], data)[0]) == ["softmax", "sigmoid"]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([net()], "expected 2 or more models, such as .*Received: 1"),
        ([net(), net(4)], "Member 1 .* gives .*3.*, member 2 .* gives .*4"),
        ([net(1), net(1, "sigmoid")], None),
        ([net(), net(activation="sigmoid")], "Member 1 .* has the head .*softmax.*, member 2 .*sigmoid"),
        ([net(), net(columns=5)], "member 2 .* cannot take the inputs of `data`"),
    ],
)
def test_who_cannot_be_members_together(models, words):
    data = DATA if models[0].output_shape[-1] > 1 else Data(train=(X, Y % 2))
    if words is None:
        return check_members("Parallel", models, data)
    with pytest.raises(ValueError, match=f"`model` of Parallel: .*{words}"):
        check_members("Parallel", models, data)


def test_no_member_has_the_name_of_an_input_or_output():
    def build(name):
        given = keras.Input((6,), name="pixels")
        return keras.Model(given, [L.Dense(3, name="digit")(given), L.Dense(1, "sigmoid", name="even")(given)], name=name)

    members = take([build("pixels"), build("digit"), build("combined"), build("net")], Data(train=(X, (Y, Y % 2))))
    assert [one.model.name for one in members] == ["pixels_2", "digit_2", "combined_3", "net"]
    assert output_names(members[0]) == ["digit", "even"] and output_names(take([net()], DATA)[0]) == ["combined"]
