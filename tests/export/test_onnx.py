import keras
import numpy as np
import pytest

pytest.importorskip("tf2onnx")
pytest.importorskip("onnxruntime")

from kdfuse.export import onnx as onnx_file
from kdfuse.export.onnx import OnnxModel, guest, save_onnx

layers = keras.layers


def test_round_trip_keeps_order_names_and_values(tmp_path, capfd):
    inputs = [keras.Input((4,), name="zeta"), keras.Input((3,), name="alpha")]
    joined = layers.Concatenate()(inputs)
    model = keras.Model(inputs, [layers.Dense(units)(joined) for units in range(1, 12)])
    loaded = OnnxModel(save_onnx(model, tmp_path / "deep" / "m.onnx"))
    assert loaded.inputs == ["zeta", "alpha"] and loaded.outputs == [f"output_{place}" for place in range(11)]
    for rows in (5, 2):
        x = [np.random.default_rng(0).random((rows, size), "float32") for size in (4, 3)]
        for one, two in zip(loaded(x), model(x), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)
    assert capfd.readouterr() == ("", "")


def test_integers_convolutions_and_dict_outputs(tmp_path):
    words, image = keras.Input((6,), dtype="int32", name="words"), keras.Input((8, 8, 1), name="image")
    seen = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(image)))
    read = layers.GlobalAveragePooling1D()(layers.Embedding(20, 3)(words))
    model = keras.Model({"words": words, "image": image}, {"seen": layers.Dense(2)(seen), "read": layers.Dense(3)(read)})
    rng = np.random.default_rng(0)
    x = {"words": rng.integers(0, 20, (5, 6)), "image": rng.random((5, 8, 8, 1), "float32")}
    found, expected = OnnxModel(save_onnx(model, tmp_path / "m.onnx"))(x), model(x)
    assert set(found) == {"seen", "read"}
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, tmp_path):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(onnx_file.importlib, "import_module", missing)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ImportError, match=r'need the package tf2onnx. Install it: pip install "kdfuse\[onnx\]"'):
        save_onnx(model, tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(ImportError, match="need the package onnxruntime"):
        OnnxModel(tmp_path / "m.onnx")
    with pytest.raises(ImportError):
        guest("onnx")


def test_what_cannot_be_written_or_read(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="expected a name that ends in .onnx. Received: 'm.on'. Give 'm.onnx'"):
        save_onnx(model, tmp_path / "m.on")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        OnnxModel(tmp_path / "m.onnx")
    path = save_onnx(model, tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="is no ONNX model, is damaged, or has an operation that onnxruntime lacks"):
        OnnxModel(path)
    with pytest.raises(ValueError, match="`inputs`: the ONNX model cannot run on them"):
        OnnxModel(save_onnx(model, path))(np.zeros((2, 7), "float32"))
