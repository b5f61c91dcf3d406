import zipfile

import keras
import numpy as np
import pytest

from kdfuse.export.keras_file import load_model, save_model


def relu_like(x):
    return keras.ops.maximum(x, 0.0)


class Own(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2


def model(*extra):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), *extra])


@pytest.fixture
def saved(tmp_path):
    return save_model(model(), tmp_path / "folder" / "model.keras")


def test_round_trip(saved):
    first = load_model(saved)
    x = np.ones((2, 4), "float32")
    save_model(first, saved)
    np.testing.assert_array_equal(load_model(str(saved))(x), first(x))
    assert [path.name for path in saved.parent.iterdir()] == ["model.keras"]


def test_custom_objects(tmp_path):
    path = save_model(model(Own(), keras.layers.Activation(relu_like)), tmp_path / "own.keras")
    with pytest.raises(ValueError, match=r"'Own'.*custom_objects=\{'Own': Own\}"):
        load_model(path)
    with pytest.raises(ValueError, match=r"relu_like"):
        load_model(path, {"Own": Own})
    assert load_model(path, {"Own": Own, "relu_like": relu_like}).count_params() == 15


def test_a_lambda_is_not_run(tmp_path):
    path = save_model(model(keras.layers.Lambda(lambda x: x + 1)), tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"lambda.*named function"):
        load_model(path)


def test_missing(saved):
    with pytest.raises(FileNotFoundError, match=r"no file .*other.keras.*model.keras"):
        load_model(saved.with_name("other.keras"))


def test_every_truncation_is_one_clear_error(saved):
    whole = saved.read_bytes()
    for size in (0, 1, 10, 100, len(whole) // 3, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        saved.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"`path`.*(empty|truncated|damaged|not a .keras file)"):
            load_model(saved)


def test_flipped_bytes_load_as_before_or_are_an_error(saved):
    whole = saved.read_bytes()
    x = np.ones((2, 4), "float32")
    before = load_model(saved)(x).numpy()
    errors = 0
    for place in np.random.default_rng(0).integers(0, len(whole), 40):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        saved.write_bytes(bytes(changed))
        try:
            found = load_model(saved)(x).numpy()
        except ValueError as error:
            assert "`path`" in str(error) and str(saved) in str(error)
            errors += 1
        else:  # a byte that nothing depends on, such as a time
            np.testing.assert_array_equal(found, before)
    assert errors > 30


@pytest.mark.parametrize("content", [b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100), bytes(50)])
def test_not_a_keras_file(tmp_path, content):
    path = tmp_path / "x.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a .keras file"):
        load_model(path)


def test_another_zip_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ValueError, match="no Keras model"):
        load_model(tmp_path / "x.keras")


def test_wrong_endings(tmp_path, saved):
    with pytest.raises(ValueError, match="ends in .keras"):
        save_model(model(), tmp_path / "model.h5")
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"\.h5.*can run code"):
        load_model(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="folder"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="expected a keras.Model"):
        save_model("model", tmp_path / "a.keras")


def test_a_failed_save_leaves_the_earlier_file(saved, monkeypatch):
    before = saved.read_bytes()
    broken = model()

    def fail(path):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(broken, "save", fail)
    with pytest.raises(OSError, match="no space"):
        save_model(broken, saved)
    assert saved.read_bytes() == before and len(list(saved.parent.iterdir())) == 1
