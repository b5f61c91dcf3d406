from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.models.transformer import transformer

IDS = np.array([[3, 1, 2, 0, 0, 0], [5, 4, 3, 2, 1, 0], [1, 0, 0, 0, 0, 0]], np.int32)
TOKENS = Data((IDS, np.array([0, 1, 2])))
SMALL: dict[str, Any] = {"width": 8, "heads": 2, "layers": 1, "feed_forward": 6}


def data(*shape: Any) -> SimpleNamespace:
    return SimpleNamespace(input_shape=shape, task="classification", classes=10)


def names(model: keras.Model) -> list[str]:
    return [operation.name for operation in model.operations]


def test_parameters_by_hand() -> None:
    block = 4 * (8 * 8 + 8) + (8 * 6 + 6) + (6 * 8 + 8) + 2 * 16
    assert transformer(data(5, 7), **SMALL).count_params() == (7 * 8 + 5 * 8) + block + 16 + (8 * 10 + 10)
    assert transformer(data(5, 7), **SMALL, pooling="cls").count_params() == (7 * 8 + 6 * 8) + block + 16 + (8 * 10 + 10)
    assert transformer(data(5, 7), **SMALL, positions=None).count_params() == (7 * 8 + 8) + block + 16 + (8 * 10 + 10)
    narrow = 6 * 3 + (3 * 8 + 6 * 8) + block + 16 + (8 * 3 + 3)
    assert transformer(TOKENS, **SMALL, embedding=3).count_params() == narrow
    two = transformer(data(5, 7), width=8, heads=(2, 4), feed_forward=(6, 5))
    assert two.count_params() == (7 * 8 + 5 * 8) + block + (block - 6 * 8 * 2 - 6 + 5 * 8 * 2 + 5) + 16 + (8 * 10 + 10)
    assert transformer(data(5, 7)).get_layer("dense_1").units == 256
    assert [two.get_layer(f"attention_{index}").num_heads for index in (1, 2)] == [2, 4]


def test_the_parts_stand_in_order() -> None:
    model = transformer(TOKENS, **SMALL, dropout=0.1)
    first = ["embedding", "projection", "dropout"]
    block = ["attention_norm_1", "attention_1", "attention_dropout_1", "attention_add_1"]
    block += ["dense_norm_1", "dense_1", "activation_1", "dense_out_1", "dense_dropout_1", "dense_add_1"]
    found = [name for name in names(model) if name not in ("input", "present")]
    assert found == [*first, *block, "norm", "pooling", "head_dropout", "logits"]
    assert names(transformer(data(5, 7, 1), **SMALL, pooling="cls"))[:4] == ["input", "steps", "cls", "projection"]


@pytest.mark.parametrize("pooling", ["average", "max", "cls"])
@pytest.mark.parametrize("positions", ["learned", None])
def test_padding_changes_nothing(pooling: str, positions: str | None) -> None:
    model = transformer(TOKENS, **{**SMALL, "layers": 2}, pooling=pooling, positions=positions)
    before = np.asarray(model(IDS))
    table = model.get_layer("embedding").embeddings
    changed = np.asarray(table).copy()
    changed[0] = 9.0
    table.assign(changed)
    np.testing.assert_allclose(model(IDS), before, rtol=1e-4, atol=1e-5)
    changed[1] = 9.0
    table.assign(changed)
    assert not np.allclose(model(IDS), before, atol=1e-3)


def test_only_positions_tell_the_order() -> None:
    swapped = IDS[:, [1, 0, 2, 3, 4, 5]]
    for positions in ("learned", None):
        model = transformer(TOKENS, **SMALL, positions=positions)
        same = np.allclose(model(IDS[:2]), model(swapped[:2]), atol=1e-5)
        assert same == (positions is None)


def test_the_step_of_the_class_reads_the_others_and_is_learnt() -> None:
    model = transformer(data(5, 7), **SMALL, pooling="cls")
    x = np.random.default_rng(0).normal(size=(2, 5, 7)).astype("float32")
    assert not np.allclose(model(x)[0], model(x)[1], atol=1e-4)
    bias = model.get_layer("projection").bias
    before = np.asarray(model(x))
    bias.assign(np.asarray(bias) + np.eye(1, 48, dtype="float32").reshape(6, 8))  # the first feature of the first step
    assert not np.allclose(model(x), before, atol=1e-4)


def test_shapes_of_sequences() -> None:
    for shape in ((5,), (5, 3), (5, 3, 2)):
        assert transformer(data(*shape), **SMALL)(np.ones((2, *shape))).shape == (2, 10)
    open_length = transformer(data(None, 3), **SMALL, positions=None, pooling="cls")
    assert open_length(np.ones((2, 4, 3))).shape == open_length(np.ones((2, 9, 3))).shape == (2, 10)
    with pytest.raises(ValueError, match="`positions`: 'learned' needs data of one length"):
        transformer(data(None, 3), **SMALL)
    with pytest.raises(ValueError, match="`heads`: expected divisors of the width, 8. Received: heads=3"):
        transformer(data(5, 3), **{**SMALL, "heads": 3})
    with pytest.raises(ValueError, match=r"`embedding`: a setting for token ids.*\(5, 3\)"):
        transformer(data(5, 3), **SMALL, embedding=4)
    with pytest.raises(ValueError, match="expected one input for transformer"):
        transformer(SimpleNamespace(input_shape=((5, 3), (5, 3)), task="classification", classes=2))


def test_large_ids_survive_half_precision() -> None:
    ids = np.array([[3000, 3001], [3001, 1]], np.int32)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = transformer(Data((ids, np.array([0, 1]))), **SMALL, pooling="max")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.input.dtype == "int32" and np.isfinite(model(ids)).all()
    assert not np.allclose(model(ids), model(ids + np.array([[1, 0], [0, 0]], np.int32)))
