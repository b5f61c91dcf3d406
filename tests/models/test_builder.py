import inspect
import pickle
from types import SimpleNamespace

import keras
import pytest

from kdfuse.models.builder import builder, setting_names
from kdfuse.models.mlp import mlp

DATA = SimpleNamespace(input_shape=(2,), task="regression", classes=1)


@builder
def tiny(data: SimpleNamespace, *, width: int = 3) -> keras.Model:
    """A model."""
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(width)])


def test_the_signature_and_the_docstring_stay() -> None:
    assert setting_names(tiny) == ("width",)
    assert inspect.signature(tiny).parameters["width"].default == 3
    assert (tiny.__name__, tiny.__doc__) == ("tiny", "A model.")


def test_it_builds() -> None:
    assert tiny(DATA, width=5).output_shape == (None, 5)


def test_unknown_settings_and_no_data() -> None:
    with pytest.raises(TypeError, match=r"tiny has no setting 'widht'. Did you mean 'width'?"):
        tiny(DATA, widht=5)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="which has no task, classes"):
        tiny(SimpleNamespace(input_shape=(2,)))
    with pytest.raises(TypeError, match="data"):
        tiny()  # type: ignore[call-arg]


def test_builders_travel_to_workers() -> None:
    assert pickle.loads(pickle.dumps(mlp)) is mlp
