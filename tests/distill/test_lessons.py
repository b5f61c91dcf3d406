"""Lessons beside the data, and the short form of logits."""

import numpy as np
import pytest

from kdfuse.distill.lessons import INPUTS, LESSONS, ROWS, TaughtSplit, parts_of, short, whole
from kdfuse.splits import ArraySplit

X = np.random.default_rng(0).standard_normal((50, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, 50)
LOGITS = (5 * np.random.default_rng(2).standard_normal((50, 9))).astype("float32")


def split(weights: bool = True) -> ArraySplit:
    return ArraySplit(X, Y, np.linspace(0.1, 1, 50).astype("float32") if weights else None)


def test_a_taught_split_tells_what_it_told_before() -> None:
    taught = TaughtSplit(split(), ({"logits": LOGITS},), numbered=True)
    assert taught.fingerprint == split().fingerprint and len(taught) == 50 and taught.steps(16) == 4
    np.testing.assert_array_equal(taught.head(3)[0], X[:3])
    order = np.random.default_rng([5, 2]).permutation(50)
    rows = list(taught.dataset(16, seed=5, start=2, epochs=3).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([x[INPUTS] for x, _, _ in rows]), X[order])
    np.testing.assert_array_equal(np.concatenate([x[LESSONS][0]["logits"] for x, _, _ in rows]), LOGITS[order])
    np.testing.assert_array_equal(np.concatenate([x[ROWS] for x, _, _ in rows]), order)
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in rows]), Y[order])


def test_each_epoch_has_its_view() -> None:
    seen = ArraySplit(np.concatenate([X, X + 100, X + 200]), np.tile(Y, 3))
    lessons = ({"logits": np.concatenate([LOGITS, LOGITS + 1, LOGITS + 2])},)
    taught = TaughtSplit(split(), lessons, views=seen, numbered=True)
    assert taught.steps(16) == 4 and len(taught) == 50
    for epoch in range(5):
        rows = list(taught.dataset(16, seed=5, start=epoch, epochs=epoch + 1).as_numpy_iterator())
        order, view = np.random.default_rng([5, epoch]).permutation(50), epoch % 3
        np.testing.assert_array_equal(np.concatenate([x[INPUTS] for x, _, _ in rows]), X[order] + np.float32(100 * view))
        np.testing.assert_array_equal(np.concatenate([x[LESSONS][0]["logits"] for x, _, _ in rows]), LOGITS[order] + np.float32(view))
        np.testing.assert_array_equal(np.concatenate([x[ROWS] for x, _, _ in rows]), order)
        np.testing.assert_array_equal(np.concatenate([y for _, y, _ in rows]), Y[order])
        np.testing.assert_array_equal(np.concatenate([w for _, _, w in rows]), split().sample_weight[order])


def test_functions_of_the_inputs_reach_them_alone() -> None:
    taught = TaughtSplit(split(False), None, numbered=True)
    x, _ = next(iter(taught.dataset(4).as_numpy_iterator()))
    changed = taught.map_inputs(lambda inputs: inputs + 1, x)
    np.testing.assert_array_equal(changed[INPUTS], X[:4] + 1)
    np.testing.assert_array_equal(changed[ROWS], np.arange(4))
    np.testing.assert_array_equal(split().map_inputs(lambda inputs: inputs + 1, X), X + 1)


def test_parts() -> None:
    assert parts_of({"a": 1}) == ({"a": 1}, None, None)
    assert parts_of({INPUTS: 1}) == (1, None, None)
    assert parts_of({INPUTS: 1, LESSONS: (2,), ROWS: 3}) == (1, (2,), 3)


@pytest.mark.parametrize("top_k", [1, 3, 7])
def test_the_short_form_keeps_the_likely_classes_and_what_is_left(top_k: int) -> None:
    packed = short({"logits": LOGITS, "features": (X,)}, top_k)
    assert packed["logits"]["top_values"].shape == (50, top_k) and packed["features"][0] is X
    again = np.asarray(whole(packed, np.zeros((50, 9)))["logits"])
    softmax = np.exp(LOGITS - LOGITS.max(-1, keepdims=True)) / np.exp(LOGITS - LOGITS.max(-1, keepdims=True)).sum(-1, keepdims=True)
    back = np.exp(again - again.max(-1, keepdims=True)) / np.exp(again - again.max(-1, keepdims=True)).sum(-1, keepdims=True)
    order = np.argsort(-LOGITS, axis=-1)
    for row in range(50):
        kept, left = order[row, :top_k], order[row, top_k:]
        np.testing.assert_allclose(back[row, kept], softmax[row, kept], rtol=1e-5)
        np.testing.assert_allclose(back[row, left], np.full(9 - top_k, softmax[row, left].mean()), rtol=1e-4)


def test_few_classes_stay_whole_and_several_outputs_keep_their_structure() -> None:
    assert short({"logits": LOGITS}, 8)["logits"] is LOGITS
    lesson = short({"logits": {"b": LOGITS, "a": LOGITS[:, :3]}}, 2)
    again = whole(lesson, {"a": np.zeros((50, 3)), "b": np.zeros((50, 9))})["logits"]
    assert list(again) == ["b", "a"] and again["b"].shape == (50, 9)
    np.testing.assert_array_equal(again["a"], LOGITS[:, :3])
    listed = whole({"logits": list(lesson["logits"].values())}, [np.zeros((50, 9)), np.zeros((50, 3))])["logits"]
    np.testing.assert_allclose(listed[0], again["b"])
