"""The teacher's outputs, computed once and kept."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.distill import cache
from kdfuse.distill.cache import Cache, forget
from kdfuse.distill.cache import targets as kept
from kdfuse.distill.teachers import Teacher
from kdfuse.home import home
from kdfuse.splits import ArraySplit

X = np.random.default_rng(0).standard_normal((50, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, 50)


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    forget()


def teacher(seed: int = 0, activation: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(9, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((6,)), *layers, *([keras.layers.Activation(activation)] if activation else [])])


def split(x: Any = X) -> ArraySplit:
    return ArraySplit(x, Y, np.ones(50, "float32"))


def targets(model: keras.Model, split: ArraySplit, head: Any, *, batch_size: int = 256, disk: bool | None = None, **teacher: Any) -> Any:
    where = {None: "auto", True: "disk", False: "memory"}[disk]
    return kept(Teacher(model, head, **teacher), split, batch_size=batch_size, cache=Cache(where))


def saved() -> list[Path]:
    return sorted(home("teachers").glob("*")) if home("teachers").exists() else []


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("batch_size", [7, 50, 256])
def test_all_rows_in_order_and_once(disk: bool, batch_size: int) -> None:
    model = teacher()
    made = targets(model, split(), "logits", batch_size=batch_size, disk=disk)
    assert made.source == "computed" and made.outputs.dtype == np.float32
    np.testing.assert_allclose(made.outputs, model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)
    again = targets(model, split(), "logits", disk=disk)
    assert again.source == ("disk" if disk else "memory")
    np.testing.assert_array_equal(again.outputs, made.outputs)
    assert isinstance(made.outputs, np.memmap) == disk and isinstance(again.outputs, np.memmap) == disk
    with pytest.raises(ValueError, match="read-only"):
        again.outputs[0] = 0


def test_softmax_teachers_give_the_logits_before_it() -> None:
    model = teacher(activation="softmax")
    linear = keras.Sequential([keras.Input((6,)), *model.layers[:-1]])
    np.testing.assert_allclose(targets(model, split(), "softmax").outputs, linear.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


def test_what_changes_the_outputs_is_a_miss() -> None:
    model = teacher()
    assert targets(model, split(), "logits").source == "computed"
    assert targets(model, ArraySplit(X, 3 - Y), "logits").source == "memory"  # other labels: the same inputs
    assert targets(teacher(), split(), "logits").source == "memory"  # the same model built again
    assert targets(model, split(X + 1), "logits").source == "computed"
    assert targets(model, split(X[::-1]), "logits").source == "computed"
    assert targets(teacher(activation="softmax"), split(), "softmax").source == "computed"
    model.layers[1].moving_mean.assign_add(np.ones(9, "float32"))
    changed = targets(model, split(), "logits")
    assert changed.source == "computed"
    np.testing.assert_allclose(changed.outputs, model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


def test_large_outputs_go_to_disk_and_outlive_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFUSE_TEACHER_MEMORY", str(50 * 4 * 4 - 1))
    model = teacher()
    assert targets(model, split(), "logits").source == "computed" and len(saved()) == 2
    forget()
    assert targets(model, split(), "logits").source == "disk"


def test_memory_keeps_the_ones_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFUSE_TEACHER_MEMORY", str(2 * 50 * 4 * 4))
    models = [teacher(seed) for seed in range(3)]
    assert [targets(models[i], split(), "logits").source for i in (0, 1, 0, 2)] == ["computed", "computed", "memory", "computed"]
    assert [targets(models[i], split(), "logits").source for i in (0, 2, 1)] == ["memory", "memory", "computed"]
    assert saved() == []


@pytest.mark.parametrize("damage", ["truncated", "altered", "gone", "index", "empty"])
def test_a_file_that_is_not_whole_is_computed_again(damage: str) -> None:
    model = teacher()
    expected = np.array(targets(model, split(), "logits", disk=True).outputs)
    array = next(path for path in saved() if path.suffix == ".npy")
    index = next(path for path in saved() if path.suffix == ".json")
    whole = array.read_bytes()
    if damage == "truncated":
        array.write_bytes(whole[:-7])
    elif damage == "altered":
        array.write_bytes(whole[:-7] + b"1234567")
    elif damage == "gone":
        array.unlink()
    elif damage == "index":
        index.write_text("{")
    else:
        array.write_bytes(b"")
    again = targets(model, split(), "logits", disk=True)
    assert again.source == "computed"
    np.testing.assert_array_equal(again.outputs, expected)
    assert targets(model, split(), "logits", disk=True).source == "disk"


def test_a_broken_off_computation_leaves_nothing_to_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    model = teacher()

    def broken(filled: list[np.ndarray], *rest: Any) -> None:
        filled[0][:10] = 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache, "_fill", broken)
        targets(model, split(), "logits", disk=True)
    assert saved() == []
    assert targets(model, split(), "logits", disk=True).source == "computed"


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("form", ["dict", "list"])
def test_several_outputs(form: str, disk: bool) -> None:
    inputs = keras.Input((6,))
    b, a = keras.layers.Dense(3, name="b")(inputs), keras.layers.Dense(1, name="a")(inputs)
    model = keras.Model(inputs, {"b": b, "a": a} if form == "dict" else [b, a])
    heads = {"b": "logits", "a": "regression"} if form == "dict" else ["logits", "regression"]
    expected = model.predict(X, verbose=0)
    for source in ("computed", "disk" if disk else "memory"):
        made = targets(model, split(), heads, disk=disk)
        assert made.source == source
        places = ("b", "a") if form == "dict" else (0, 1)
        for place in places:
            np.testing.assert_allclose(made.outputs[place], expected[place], rtol=1e-5, atol=1e-6)


def test_the_teacher_is_left_as_it_is() -> None:
    model = teacher()
    model.layers[0].activity_regularizer = keras.regularizers.L2(0.1)
    before = [np.array(weight) for weight in model.get_weights()]
    targets(model, split(), "logits")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.losses == [] and not model.compiled


def test_a_teacher_that_gives_nan_is_refused() -> None:
    model = teacher()
    x = X.copy()
    x[13] = 3e38
    with pytest.raises(ValueError, match="gives NaN or infinity for training row 13"):
        targets(model, split(x), "logits", batch_size=8)


class Scaled(keras.Model):
    """With a setting that neither its config nor its weights hold."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense, self.scale = keras.layers.Dense(4), 1.0

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs) * self.scale


@pytest.mark.parametrize("form", [Cache("memory"), Cache("disk", dtype="float16", top_k=2)])
def test_a_teacher_that_says_something_else_is_asked_again(form: Cache) -> None:
    model = Scaled()
    model(X[:2])
    first = kept(Teacher(model), split(), cache=form)
    assert kept(Teacher(model), split(), cache=form).source == form.where
    model.scale = 3.0
    again = kept(Teacher(model), split(), cache=form)
    assert again.source == "computed" and kept(Teacher(model), split(), cache=form).source == form.where
    if form.top_k is None:
        np.testing.assert_allclose(again.outputs, 3 * first.outputs, rtol=1e-5)
