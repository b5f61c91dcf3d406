"""What holds for every builder."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from kdfuse import models
from kdfuse.data import Data
from kdfuse.datasets.digits import load_digits
from kdfuse.models.builder import setting_names
from kdfuse.splits import ArraySplit

BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "mlp": models.mlp,
    "convnet": models.convnet,
    "resnet": models.resnet,
    "recurrent": models.recurrent,
    "transformer": models.transformer,
}
DIGITS = SimpleNamespace(input_shape=(8, 8), task="classification", classes=10)
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"units": (8, 8)},
    "convnet": {"filters": 4, "units": (8,)},
    "resnet": {"filters": 4, "blocks": (1, 1)},
    "recurrent": {"units": 4},
    "transformer": {"width": 8, "heads": 2, "feed_forward": 8},
}
# 0 is padding, at the ends of rows; ids up to 11.
IDS = np.random.default_rng(0).integers(1, 11, (10, 6), np.int32)
IDS[np.arange(6) > np.arange(10)[:, None]] = 0
IDS[0, 0] = 11
TOKENS = Data((IDS, np.arange(10)))

SHARED: dict[str, Any] = {
    "activation": "tanh",
    "negative_slope": 0.1,
    "threshold": 0.5,
    "max_value": 6.0,
    "dropout": 0.5,
    "kernel_initializer": "orthogonal",
    "head": "softmax",
    "seed": 1,
    "name": "student",
}
SIZES: dict[str, dict[str, Any]] = {
    "embedding": {"data": TOKENS, "embedding": 5},
    "vocabulary": {"data": TOKENS, "vocabulary": 20},
}
RELU = {name: {"activation": "relu", name: SHARED[name]} for name in ("negative_slope", "threshold", "max_value")}
CONV = {**SHARED, "kernel_size": 5, "dimensions": 1, "global_pooling": "max", "filters": 6}
CHANGES: dict[str, dict[str, Any]] = {
    "mlp": {
        **SHARED,
        "units": (8, 9),
        "layers": {"units": 8, "layers": 3},
        "input_dropout": 0.2,
        "batch_norm": True,
        "skip": True,
        "max_norm": 2.0,
    },
    "convnet": {
        **CONV,
        "layers": 3,
        "strides": {"strides": 2, "pooling": None},
        "pooling": "average",
        "pool_size": {"pool_size": 4, "layers": 1},
        "batch_norm": True,
        "skip": True,
        "units": 12,
        **SIZES,
    },
    "resnet": {**CONV, "blocks": (1, 2), "stages": {"blocks": 1, "stages": 2}, "batch_norm": False, "bottleneck": True},
    "recurrent": {
        **{name: value for name, value in SHARED.items() if name not in RELU},
        **SIZES,
        "activation": "relu",
        "units": (5,),
        "layers": 2,
        "cell": "lstm",
        "bidirectional": False,
        "pooling": "max",
    },
    "transformer": {
        **SHARED,
        **RELU,
        **SIZES,
        "layers": 1,
        "heads": (2, 4),
        "width": 16,
        "feed_forward": (8, 9),
        "positions": None,
        "pooling": "cls",
    },
}
BAD: dict[str, dict[str, list[Any]]] = {
    "mlp": {
        "units": [0, -1, 2.5, "64", (8, 0), True],
        "layers": [3, -1, 1.0],
        "activation": ["rleu", None],
        "negative_slope": [-0.1, float("nan")],
        "threshold": [-1.0, "1"],
        "max_value": [0.0, -1.0, float("inf")],
        "dropout": [1.0, -0.1, (0.1,), float("nan"), "0.1"],
        "input_dropout": [1.0],
        "batch_norm": ["yes", 1],
        "skip": [None],
        "max_norm": [0.0, -1.0],
        "kernel_initializer": ["he_norm"],
        "head": ["sigmoid", "regression", "logit", ("logits", "logits"), None],
        "seed": [-1, 0.5],
    },
    "convnet": {
        "layers": [0, 4],
        "filters": [-3, (4, 4, 0)],
        "kernel_size": [9, 0, (3, 3, 3, 3.0)],
        "strides": [0],
        "pooling": ["maximum", 2],
        "pool_size": [0, 16],
        "global_pooling": ["mean"],
        "units": [0, (4, -4)],
        "dropout": [1.0],
        "dimensions": [3, "2"],
        "embedding": [8, 0],
        "vocabulary": [20, True],
    },
    "resnet": {
        "blocks": [0, (1, 0), ()],
        "stages": [3, 0],
        "filters": [0, (4, 8, 16)],
        "kernel_size": [9, (3, 3)],
        "batch_norm": [0],
        "bottleneck": ["no"],
        "global_pooling": [None],
        "dimensions": [0],
    },
    "recurrent": {
        "units": [0, (4, 0), (), None],
        "layers": [0, 1.5],
        "cell": ["gri", None],
        "bidirectional": [1],
        "embedding": [0, 2.5],
        "vocabulary": [20, 1],
        "activation": ["prelu", "reul"],
        "pooling": ["cls", None],
        "dropout": [1.0],
        "kernel_initializer": ["he_norm"],
        "head": ["sigmoid"],
        "seed": [-1],
    },
    "transformer": {
        "layers": [0, -1],
        "heads": [3, 0, (2, 3), (2, 2, 2, 0)],
        "width": [0, 9, None],
        "feed_forward": [0, (8, 0)],
        "positions": ["sine"],
        "embedding": [4, 0],
        "vocabulary": [20],
        "activation": ["rleu"],
        "negative_slope": [0.1],
        "pooling": ["last", None],
        "dropout": [1.0],
        "head": ["regression"],
    },
}


def same_weights(a: keras.Model, b: keras.Model) -> bool:
    pairs = list(zip(a.get_weights(), b.get_weights(), strict=True))
    return all(np.array_equal(one, other) for one, other in pairs)


@pytest.fixture(params=BUILDERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_builder_of_the_room_is_checked_here() -> None:
    public = {name for name, value in vars(models).items() if inspect.isfunction(value)}
    assert public == set(BUILDERS) == set(CHANGES)


def test_the_signature_is_keyword_only_and_open(name: str) -> None:
    parameters = inspect.signature(BUILDERS[name]).parameters
    assert next(iter(parameters)) == "data"
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in list(parameters.values())[1:])
    assert setting_names(BUILDERS[name]) == tuple(parameters)[1:]


def test_every_setting_is_tried_below(name: str) -> None:
    assert set(CHANGES[name]) == set(setting_names(BUILDERS[name]))


@pytest.mark.parametrize(("name", "setting"), [(name, setting) for name in BUILDERS for setting in CHANGES[name]])
def test_every_setting_changes_the_model(name: str, setting: str) -> None:
    change = CHANGES[name][setting]
    changed = dict(change) if isinstance(change, dict) else {setting: change}
    data = changed.pop("data", DIGITS)
    # Where a change needs others to be possible, both models have the others.
    base = {**SMALL[name], **{key: value for key, value in changed.items() if key != setting}} if isinstance(change, dict) else SMALL[name]
    base.pop("data", None)
    one, other = BUILDERS[name](data, **base), BUILDERS[name](data, **{**base, **changed})
    assert one.to_json() != other.to_json()


@pytest.mark.parametrize(
    ("name", "setting", "value"), [(name, key, value) for name in BUILDERS for key in BAD[name] for value in BAD[name][key]]
)
def test_a_bad_value_is_one_clear_error(name: str, setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"`.+`: .*Received: ") as error:
        BUILDERS[name](DIGITS, **{**SMALL[name], setting: value})
    assert len(str(error.value)) < 400


def test_an_unknown_setting_suggests_the_near_one(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name} has no setting 'activatoin'. Did you mean 'activation'"):
        BUILDERS[name](DIGITS, activatoin="relu")


def test_data_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"`data`: expected an object with .*kdfuse\.Data.*ndarray"):
        BUILDERS[name](np.zeros((3, 8, 8)))
    with pytest.raises(ValueError, match="`data`"):
        BUILDERS[name](data=[1, 2])
    assert BUILDERS[name](data=DIGITS, **SMALL[name]).name == name


def test_the_seed_alone_gives_the_weights(name: str) -> None:
    settings = {**SMALL[name], "dropout": 0.3}
    keras.utils.set_random_seed(1)
    one = BUILDERS[name](DIGITS, **settings, seed=3)
    keras.utils.set_random_seed(2)
    keras.layers.Dense(3)
    two, other = BUILDERS[name](DIGITS, **settings, seed=3), BUILDERS[name](DIGITS, **settings, seed=4)
    assert one.to_json() == two.to_json()
    assert same_weights(one, two)
    # Biases of recurrent layers and of attention have two axes, and are zeros.
    kernels = [(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True) if a.ndim > 1 and a.any()]
    assert kernels and not any(np.array_equal(a, b) for a, b in kernels)
    x = np.ones((4, 8, 8), "float32")
    assert np.array_equal(one(x, training=True), two(x, training=True))


def test_names_are_explicit(name: str) -> None:
    first = BUILDERS[name](DIGITS, **SMALL[name])
    assert [layer.name for layer in first.layers] == [layer.name for layer in BUILDERS[name](DIGITS, **SMALL[name]).layers]
    assert (first.name, first.layers[0].name, first.layers[-1].name) == (name, "input", "logits")


def test_settings_from_numpy_and_lists_serve(name: str) -> None:
    size = {"mlp": "units", "convnet": "filters", "resnet": "filters", "recurrent": "units", "transformer": "heads"}[name]
    sloped = "negative_slope" in setting_names(BUILDERS[name])
    given = BUILDERS[name](
        DIGITS,
        **{
            **SMALL[name],
            size: [np.int64(4), np.int32(4)],
            "dropout": np.float32(0.5),
            "seed": np.int64(2),
            "activation": "relu",
            **({"negative_slope": np.float64(0)} if sloped else {}),
        },
    )
    settings = {**SMALL[name], size: (4, 4), "dropout": 0.5, "seed": 2, "activation": "relu"}
    plain = BUILDERS[name](DIGITS, **settings, **({"negative_slope": 0.0} if sloped else {}))
    assert json.loads(given.to_json()) == json.loads(plain.to_json())
    assert same_weights(given, plain)


def test_the_head_stays_in_float32_under_mixed_precision(name: str) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = BUILDERS[name](DIGITS, **SMALL[name])
    finally:
        keras.config.set_dtype_policy(before)
    assert model.layers[-2].compute_dtype == "bfloat16"
    assert model.output.dtype == model(np.ones((2, 8, 8))).dtype == "float32"


def test_channels_are_last_whatever_keras_says(name: str) -> None:
    expected = BUILDERS[name](DIGITS, **SMALL[name])
    keras.config.set_image_data_format("channels_first")
    try:
        model = BUILDERS[name](DIGITS, **SMALL[name])
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.to_json() == expected.to_json()


def test_it_learns_digits(name: str) -> None:
    data = load_digits()
    assert isinstance(data.train, ArraySplit)
    size = {
        "mlp": {"units": 64},
        "convnet": {"filters": 16},
        "resnet": {"filters": 8},
        "recurrent": {"units": 32},
        "transformer": {"width": 32},
    }[name]
    model = BUILDERS[name](data, **size)
    # Data order from the global seed would make the threshold a matter of luck.
    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.005), loss=loss, metrics=["accuracy"])
    x, y = data.train.x, data.train.y
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    model.fit(x, y, batch_size=32, epochs=1, verbose=0)
    after = model.evaluate(x, y, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"]
    assert after["accuracy"] > 0.4


LOAD = """
import pathlib, sys
import keras, numpy as np
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.keras")):
    model = keras.models.load_model(path)
    np.save(path.with_suffix(".loaded.npy"), model(np.load(path.with_suffix(".x.npy"))))
assert not [module for module in sys.modules if module.split(".")[0] == "kdfuse"]
"""


def test_saved_files_load_without_kdfuse(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 8, 8)).astype("float32")
    extra = {
        "mlp": {
            "activation": "relu",
            "threshold": 0.1,
            "max_value": 2.0,
            "max_norm": 1.0,
            "skip": True,
            "batch_norm": True,
            "input_dropout": 0.1,
        },
        "convnet": {"activation": "prelu", "skip": True, "dropout": 0.2},
        "resnet": {"activation": "leaky_relu", "bottleneck": True},
        "recurrent": {"cell": "lstm", "embedding": 5, "units": (4, 5), "dropout": 0.1},
        "transformer": {"activation": "prelu", "pooling": "cls", "dropout": 0.1},
    }
    made = {name: (BUILDERS[name](DIGITS, **{**SMALL[name], **extra[name]}), x) for name in BUILDERS}
    ids = TOKENS.example(3)
    for name, pooling in (("recurrent", "last"), ("recurrent", "max"), ("transformer", "cls"), ("transformer", "max")):
        made[f"{name}_{pooling}_tokens"] = BUILDERS[name](TOKENS, **SMALL[name], pooling=pooling), ids
    made["convnet_tokens"] = models.convnet(TOKENS, **SMALL["convnet"]), ids
    for name, (model, given) in made.items():
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.x.npy", given)
    subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], check=True, cwd=tmp_path, timeout=120)
    for name, (model, given) in made.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.loaded.npy"), model(given), rtol=1e-5, atol=1e-6)
