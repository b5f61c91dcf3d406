import pytest

from kdfuse import datasets
from kdfuse.datasets.load import LOADERS, load


def test_by_name_with_options() -> None:
    assert load("digits", labels=30).train.rows == 30


def test_a_wrong_name_or_option_suggests_the_near_one() -> None:
    with pytest.raises(ValueError, match="Did you mean 'mnist'"):
        load("mnits")
    with pytest.raises(TypeError, match="Did you mean 'validation'"):
        load("digits", validaton=0.1)


def test_every_set_has_the_same_options_and_is_listed() -> None:
    import inspect

    own = {"polarity": ["words", "length"], "spoken_digits": ["frames", "mels"]}
    for name, loader in LOADERS.items():
        parameters = inspect.signature(loader).parameters
        assert list(parameters) == ["validation", "labels", "seed", *own.get(name, [])]
        assert all(each.default is not inspect.Parameter.empty for each in parameters.values())
        assert getattr(datasets, f"load_{name}") is loader
