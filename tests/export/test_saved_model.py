import keras
import numpy as np
import pytest

from kdfuse.export import saved_model
from kdfuse.export.saved_model import SavedModel, atomic_folder, save_saved_model

layers = keras.layers


@pytest.fixture(scope="module")
def model():
    inputs = [keras.Input((4,), name="zeta"), keras.Input((3,), name="alpha")]
    joined = layers.Concatenate()(inputs)
    return keras.Model(inputs, [layers.Dense(units)(joined) for units in range(1, 12)])


X = [np.random.default_rng(0).random((5, size), "float32") for size in (4, 3)]


def test_round_trip_keeps_order_and_values(model, tmp_path):
    path = save_saved_model(model, tmp_path / "deep" / "model")
    loaded = SavedModel(path)
    assert loaded.inputs == ["zeta", "alpha"]
    for rows in (5, 2):
        given = [one[:rows] for one in X]
        for one, two in zip(loaded(given), model(given), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)
    assert [folder.name for folder in path.parent.iterdir()] == ["model"]


def test_a_later_model_replaces_an_earlier_one_whole(model, tmp_path):
    path = save_saved_model(model, tmp_path / "model")
    (path / "assets" / "left").mkdir(parents=True)
    other = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    save_saved_model(other, path)
    np.testing.assert_allclose(SavedModel(path)(X[0]), other(X[0]), atol=1e-6)
    assert not (path / "assets" / "left").exists() and len(list(tmp_path.iterdir())) == 1


def test_a_failure_leaves_the_earlier_one(model, tmp_path, monkeypatch):
    path = save_saved_model(model, tmp_path / "model")

    def fails(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(saved_model.tf.saved_model, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        save_saved_model(keras.Sequential([keras.Input((4,)), layers.Dense(2)]), path)
    assert len(SavedModel(path)(X)) == 11 and len(list(tmp_path.iterdir())) == 1


def test_a_folder_of_something_else_is_left_alone(model, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder.*holds something else"):
        save_saved_model(model, tmp_path / "notes")
    assert (tmp_path / "notes" / "text.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("b")
    assert (tmp_path / "empty" / "a").read_text() == "b"


def test_what_cannot_be_loaded(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        SavedModel(tmp_path / "none")
    with pytest.raises(ValueError, match="expected a folder that holds a saved_model.pb"):
        SavedModel(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="cannot be loaded: .*write it again"):
        SavedModel(tmp_path)
