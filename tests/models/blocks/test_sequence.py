import keras
import numpy as np
import pytest

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.blocks.sequence import as_steps, embed, named, pool_steps, present

PIECES = Pieces(Activation("relu"))
X = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
THERE = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)


def test_tokens_become_vectors_and_padding_is_known() -> None:
    ids = keras.Input((4,), dtype="int32", name="ids")
    model = keras.Model(ids, [embed(ids, 7, 3, PIECES), present(ids)])
    given = np.array([[6, 1, 0, 0]], np.int32)
    vectors, there = model(given)
    table = np.asarray(model.get_layer("embedding").embeddings)
    np.testing.assert_array_equal(vectors, table[given])
    assert np.asarray(there).tolist() == [[True, True, False, False]]
    np.testing.assert_array_equal(table, np.asarray(PIECES.initializer("embedding", "random_uniform")((7, 3))))


def test_each_step_is_flat() -> None:
    for shape, features in (((4,), 1), ((4, 2), 2), ((4, 3, 2), 6), ((None, 3, 1), 3), ((None,), 1)):
        inputs = keras.Input(shape)
        steps = as_steps(inputs)
        assert steps.shape == (None, shape[0], features)
        x = np.random.default_rng(1).normal(size=(2, *(size or 5 for size in shape)))
        np.testing.assert_allclose(keras.Model(inputs, steps)(x), x.reshape(2, x.shape[1], features), rtol=1e-6)
    for shape in ((), (4, None)):
        with pytest.raises(ValueError, match=r"`data`: expected a sequence \(t,\)"):
            as_steps(keras.Input(shape))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["average", "max", "first"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pooling_equals_numpy(kind: str, masked: bool, dtype: str) -> None:
    x, mask = keras.Input((4, 2), dtype=dtype), keras.Input((4,), dtype="bool")
    keras.config.set_dtype_policy(dtype)
    try:
        model = keras.Model([x, mask], pool_steps(x, mask if masked else None, kind))
    finally:
        keras.config.set_dtype_policy("float32")
    rows = [row[there] if masked else row for row, there in zip(X.astype("float64"), THERE, strict=True)]
    expected = [{"average": row.mean(axis=0), "max": row.max(axis=0), "first": row[0]}[kind] for row in rows]
    given = model([X.astype(dtype), THERE])
    assert given.dtype == dtype
    np.testing.assert_allclose(given, expected, rtol=1e-5 if dtype == "float32" else 1e-2, atol=1e-3)


def test_operations_have_the_same_name_in_every_model() -> None:
    def build() -> keras.Model:
        ids = keras.Input((4,), dtype="int32", name="ids")
        return keras.Model(ids, pool_steps(embed(ids, 7, 3, PIECES), present(ids), "max"), name="model")

    one, other = build(), build()
    assert one.to_json() == other.to_json()
    expected = {"ids", "present", "embedding", "present_features", "present_steps", "pooling"}
    assert {each.name for each in one.operations} == expected
    assert named(keras.ops.add(keras.Input((2,)), 1), "plus")._keras_history.operation.name == "plus"
