from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.models.tokens import token_count

IDS = np.array([[3, 1, 0], [5, 0, 0], [2, 2, 2], [4, 1, 0]], np.int32)
Y = np.array([0, 1, 0, 1])


def data(x: np.ndarray = IDS, **splits: Any) -> Data:
    return Data((x, Y), **{name: (value, Y) for name, value in splits.items()})


def test_the_largest_id_of_the_training_rows_tells() -> None:
    assert token_count(data(), None) == 6
    assert token_count(data(IDS.astype(np.uint8), test=IDS[::-1]), None) == 6
    assert token_count(data(), 100) == 100
    assert token_count(Data(({"text": IDS}, Y)), None) == 6


@pytest.mark.parametrize("x", [IDS.astype(np.float32), IDS[..., None], IDS > 0])
def test_other_inputs_are_no_token_ids(x: np.ndarray) -> None:
    assert token_count(data(x), None) is None
    for settings in ({"vocabulary": 10}, {"vocabulary": None, "embedding": 4}):
        with pytest.raises(
            ValueError, match=r"`(vocabulary|embedding)`: a setting for token ids, one integer input \(length,\)\. Received"
        ):
            token_count(data(x), **settings)
    assert token_count(Data(((IDS, IDS), Y)), None) is None


def test_data_without_rows_needs_the_number() -> None:
    shapes = SimpleNamespace(input_shape=(3,), task="classification", classes=2)
    assert token_count(shapes, None) is None
    assert token_count(shapes, 9) == 9
    stream = Data(tf.data.Dataset.from_tensor_slices((IDS, Y)).batch(2))
    with pytest.raises(ValueError, match="`vocabulary`: expected the number of token ids, which a stream does not tell"):
        token_count(stream, None)
    assert token_count(stream, 6) == 6


def test_ids_that_have_no_place_are_refused() -> None:
    higher = IDS + np.array([[3, 0, 0]], np.int32)
    with pytest.raises(ValueError, match="expected at least 9, as there are validation or test rows with the id 8.*6 by the training rows"):
        token_count(data(test=higher), None)
    assert token_count(data(test=higher), 9) == 9
    with pytest.raises(ValueError, match="`vocabulary`: expected at least 6, as there are rows with the id 5. Received: vocabulary=5"):
        token_count(data(), 5)
    with pytest.raises(ValueError, match="`data`: expected token ids from 0.*Received: -1 in `train`.*float32"):
        token_count(data(IDS - 1), None)
    with pytest.raises(ValueError, match="`vocabulary`: expected token ids below 1048576.*Convert quantities to float32"):
        token_count(data(IDS * 1_000_000), None)
    assert token_count(data(IDS * 1_000_000), 5_000_001) == 5_000_001


def test_a_row_of_padding_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an id other than 0.*Received: 1 rows of padding alone in `validation`"):
        token_count(data(validation=IDS * np.array([[1], [0], [1], [1]], np.int32)), None)


@pytest.mark.parametrize("vocabulary", [1, 0, 2.5, True, "6"])
def test_a_bad_number(vocabulary: Any) -> None:
    with pytest.raises(ValueError, match="`vocabulary`: expected an integer of at least 2"):
        token_count(data(), vocabulary)
