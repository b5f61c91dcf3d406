"""kdfuse.settings: names, copies and errors from the fields alone."""

import copy
import dataclasses
import functools
import pickle
from pathlib import Path
from typing import Any

import pytest

from kdfuse.settings import choose, field_names, flatten, is_settings, named, names, quoted, replace, settings, suggest


@settings
class Soft:
    temperature: float = 4.0
    shift: bool = False


@settings
class Fit:
    epochs: int = 10
    learning_rate: float | None = None
    units: tuple[int, ...] = (8, 4)
    weights: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.units, str):
            raise TypeError("`units`: expected integers.")
        if self.epochs < 1:
            raise ValueError(f"`epochs`: expected at least 1. Received: epochs={self.epochs}")


@settings
class Distil:
    teacher: Any = None
    losses: tuple[Any, ...] = (Soft(),)
    training: Fit = Fit()


class KerasLike:
    """An object that speaks Keras's get_config and from_config."""

    def __init__(self, rate: float = 0.1, decay: dict[str, Any] | None = None) -> None:
        self.rate, self.decay = rate, decay

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "decay": self.decay}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "KerasLike":
        return cls(**config)


class ModelLike(KerasLike):
    """A model: it has a config that nobody should read, and weights."""

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError("subclassed model")

    def save_weights(self) -> None: ...

    def __call__(self) -> None: ...


def test_settings_are_frozen_with_tuples_for_lists() -> None:
    made = Fit(units=[[1, 2], (3, [4])], epochs=3)  # type: ignore[arg-type,list-item]
    assert made.units == ((1, 2), (3, (4,)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.epochs = 4  # type: ignore[misc]
    assert is_settings(made) and not is_settings(Fit)
    assert field_names(Fit) == field_names(made) == ("epochs", "learning_rate", "units", "weights")
    assert repr(Soft(2.0)) == "Soft(temperature=2.0, shift=False)"


def test_named_tuples_stay_what_they_are() -> None:
    Pair = dataclasses.make_dataclass("Pair", ["a"])
    from collections import namedtuple

    Point = namedtuple("Point", "x y")
    assert Fit(weights=Point(1, 2)).weights.y == 2
    assert Fit(weights=Pair([1])).weights.a == [1]


@pytest.mark.parametrize(
    ("wrong", "near"), [("epoch", "'epochs'"), ("learningrate", "'learning_rate'"), ("zzz", "Known: 'epochs', 'learning")]
)
def test_an_unknown_name_at_construction_names_the_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(TypeError, match=f"Fit has no setting '{wrong}'.*{near}"):
        Fit(**{wrong: 1})


def test_subclasses_add_settings() -> None:
    @settings
    class More(Fit):
        extra: int = 1

    assert field_names(More) == (*field_names(Fit), "extra")
    assert More(extra=2, units=[1]).units == (1,)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="More has no setting 'extr'"):
        More(extr=2)  # type: ignore[call-arg]


def test_flatten_gives_flat_names_in_order() -> None:
    flat = flatten(Distil(losses=[Soft(3.0), KerasLike(0.5, {"b": 1})], training=Fit(weights={0: 1.0, "x": [None]})))  # type: ignore[arg-type]
    assert list(flat.items()) == [
        ("teacher", None),
        ("losses__0", "Soft"), ("losses__0__temperature", 3.0), ("losses__0__shift", False),
        ("losses__1", "KerasLike"), ("losses__1__rate", 0.5), ("losses__1__decay__b", 1),
        ("training", "Fit"), ("training__epochs", 10), ("training__learning_rate", None),
        ("training__units__0", 8), ("training__units__1", 4), ("training__weights__0", 1.0), ("training__weights__x__0", None),
    ]  # fmt: skip


def test_flatten_says_that_a_sequence_is_empty() -> None:
    assert flatten(Distil(losses=()))["losses"] == "()"
    assert flatten({"a": {}, "b": []}) == {"a": "()", "b": "()"}


def test_flatten_asks_for_leaves_first() -> None:
    flat = flatten(Distil(teacher=ModelLike()), leaf=lambda value: "model:1234" if isinstance(value, ModelLike) else None)
    assert flat["teacher"] == "model:1234"


def test_a_model_is_a_leaf_whose_config_is_not_read() -> None:
    technique = Distil(teacher=ModelLike())
    assert flatten(technique)["teacher"] == "ModelLike"
    changed = replace(technique, {"training__epochs": 3})
    assert changed.teacher is technique.teacher and changed.training.epochs == 3
    with pytest.raises(TypeError, match="training__epochs"):
        replace(technique, {"training__epoch": 3})


def test_scalars_functions_and_paths_have_stable_text() -> None:
    import numpy as np

    flat = flatten(
        {"n": np.float32(0.5), "one": np.array([3]), "f": len, "p": Path("a") / "b", "partial": functools.partial(round, ndigits=2)}
    )
    assert flat["n"] == 0.5 and type(flat["n"]) is float
    assert flat["one"] == 3
    assert flat["f"] == "builtins.len"
    assert flat["p"] == str(Path("a/b"))
    assert flat["partial"] == "partial(builtins.round, (), {'ndigits': 2})"
    assert named(Soft) == f"{__name__}.Soft"


def test_flatten_ends_where_a_value_holds_itself() -> None:
    loop: dict[str, Any] = {"n": 1}
    loop["self"] = loop
    assert flatten(loop)["n"] == 1


def test_replace_changes_by_flat_names_and_touches_nothing_given() -> None:
    before = Distil(losses=(Soft(), KerasLike(0.1, {"steps": 5})))
    after = replace(
        before,
        {"losses__0__temperature": 2.0, "losses__1__decay__steps": 9, "training__epochs": 3, "training__units__1": 5},
    )
    assert after.losses[0].temperature == 2.0 and after.losses[1].decay == {"steps": 9} and after.losses[1].rate == 0.1
    assert after.training.epochs == 3 and after.training.units == (8, 5)
    assert before.losses[0].temperature == 4.0 and before.losses[1].decay == {"steps": 5} and before.training.units == (8, 4)


def test_replace_takes_whole_parts() -> None:
    assert replace(Distil(), {"training": Fit(epochs=1), "losses__0": Soft(1.0)}).losses[0].temperature == 1.0
    assert replace(Distil(), {"losses": [Soft(1.0), Soft(2.0)]}).losses[1].temperature == 2.0
    assert replace(Distil(), {"training__units": [1, 2, 3]}).training.units == (1, 2, 3)
    assert replace(Distil(), {}).training.epochs == 10


def test_every_name_of_flatten_can_be_replaced() -> None:
    made = Distil(losses=(Soft(), KerasLike()), training=Fit(weights={"a": 1}))
    for name, value in flatten(made).items():
        part = value if isinstance(value, int | float) else None
        if part is not None:
            assert flatten(replace(made, {name: part + 1}))[name] == part + 1


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("losses__0__temperatur", "'losses__0__temperature'"),
        ("training__epoch", "'training__epochs'"),
        ("training__learning_rate__steps", "'training__learning_rate'"),
        ("losses__7", "'losses"),
        ("trainin", "'training'"),
        ("training__", "'training'"),
        ("training__units__9__x", "'training__units"),
    ],
)
def test_replace_names_the_near_names_in_full(wrong: str, near: str) -> None:
    with pytest.raises(TypeError) as caught:
        replace(Distil(), {wrong: 1})
    assert str(caught.value).startswith(f"Distil has no setting '{wrong}'. Did you mean ") and near in str(caught.value)


def test_replace_refuses_a_part_and_its_whole() -> None:
    for changes in ({"training": Fit(), "training__epochs": 3}, {"training__epochs": 3, "training": Fit()}):
        with pytest.raises(TypeError, match="'training' is changed both as a whole and in part"):
            replace(Distil(), changes)


def test_the_error_of_a_wrong_value_is_not_taken_for_a_wrong_name() -> None:
    with pytest.raises(TypeError, match="expected integers"):
        replace(Distil(), {"training__units": "many"})
    with pytest.raises(ValueError, match="epochs=0"):
        replace(Distil(), {"training__epochs": 0})


def test_settings_travel() -> None:
    made = Distil(losses=(Soft(2.0),), training=Fit(3))
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made)):
        assert flatten(again) == flatten(made)


def test_choose_and_suggest() -> None:
    assert choose("decay", "cosine", ["constant", "cosine"]) == "cosine"
    with pytest.raises(ValueError, match=r"`decay`: expected one of .*Received: decay='cosin'. Did you mean 'cosine'\?"):
        choose("decay", "cosin", ["constant", "cosine"])
    with pytest.raises(ValueError, match="Received: decay=3"):
        choose("decay", 3, ["constant"])  # type: ignore[arg-type]
    assert suggest("anything", []) == "It has none."


def test_real_keras_objects_are_read_and_rebuilt() -> None:
    import keras

    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    made = Fit(weights=keras.optimizers.Adam(schedule, beta_1=0.8))
    flat = flatten(made)
    assert flat["weights"] == "Adam" and flat["weights__beta_1"] == pytest.approx(0.8)
    assert flat["weights__learning_rate__config__decay_steps"] == 10
    changed = replace(made, {"weights__beta_1": 0.5, "weights__learning_rate__config__decay_steps": 20}).weights
    assert changed.beta_1 == 0.5 and changed.get_config()["learning_rate"]["config"]["decay_steps"] == 20
    assert made.weights.beta_1 == 0.8
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert flatten(Distil(teacher=model))["teacher"] == "Sequential"


def test_a_name_that_keras_counted_is_no_setting() -> None:
    class HardVote(KerasLike):
        def __init__(self, name: str) -> None:
            self.name = name

        def get_config(self) -> dict[str, Any]:
            inner = {"class_name": "kdfuse>HardVote", "config": {"name": self.name}}
            return {"name": self.name, "weights": 2, "inner": inner}

    told = [flatten({"combiner": HardVote(name)}) for name in ("hard_vote", "hard_vote_12", "hard_vote_b", "mine")]
    assert told[0] == told[1] == {
        "combiner": "HardVote", "combiner__weights": 2, "combiner__inner__class_name": "kdfuse>HardVote", "combiner__inner__config": "()",
    }  # fmt: skip
    assert [one["combiner__name"] for one in told[2:]] == ["hard_vote_b", "mine"]
    assert told[3]["combiner__inner__config__name"] == "mine"


def test_every_name_that_can_be_replaced_is_told():
    known = names({"a": (1, 2), "b": 3})
    assert known == ["a", "b", "a__0", "a__1"]
    assert all(replace({"a": (1, 2), "b": 3}, {name: 9}) for name in known)


def test_an_error_is_quoted_in_one_line_without_bold() -> None:
    error = ValueError("Exception encountered.\n\n\x1b[1mInvalid   shape\x1b[0m\n")
    assert quoted(error) == "Exception encountered. Invalid shape" and quoted(error, 9) == "Exception"
