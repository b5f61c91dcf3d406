"""Every technique of the package, and four kinds of model that each must run on or refuse with a reason."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import kdfuse as kf

KINDS = ("mlp", "residual", "outputs", "attention")
FAST = kf.Train(epochs=1, batch_size=64, learning_rate=1e-3)


@dataclasses.dataclass
class Case:
    """A kind of model on digits: its place among the kinds, its builder `build(data, width=..., seed=...)`, a layer for an exit."""

    place: int
    data: kf.Data
    build: Callable[..., keras.Model]
    layer: str

    @functools.cached_property
    def model(self) -> keras.Model:
        return self.build(self.data)

    @functools.cached_property
    def models(self) -> list[keras.Model]:
        """Two with a common start, as a soup needs them."""
        return [self.model, FAST.apply(self.model, self.data).model]

    @functools.cached_property
    def teacher(self) -> keras.Model:
        return self.build(self.data, width=64)

    @functools.cached_property
    def assistant(self) -> keras.Model:
        return self.build(self.data, width=48)

    def technique(self, name: str) -> kf.Technique:
        """The technique of this name, with settings for this kind of model."""
        return TECHNIQUES[name](self)


RATES = {"learning_rate": [1e-3, 3e-3]}
TECHNIQUES: dict[str, Callable[[Case], kf.Technique]] = {
    "Train": lambda case: FAST,
    "Distill": lambda case: kf.Distill(case.teacher, training=FAST),
    "AssistantChain": lambda case: kf.AssistantChain(case.teacher, [case.assistant], training=FAST),
    "BornAgain": lambda case: kf.BornAgain(1, training=FAST),
    "SelfDistill": lambda case: kf.SelfDistill([case.layer], training=FAST),
    "MutualLearning": lambda case: kf.MutualLearning(training=FAST),
    "Prune": lambda case: kf.Prune(0.5, training=FAST),
    "Shrink": lambda case: kf.Shrink(keep=0.5, training=FAST),
    "ShrinkDepth": lambda case: kf.ShrinkDepth(training=FAST),
    "Grow": lambda case: kf.Grow(1.5, training=FAST),
    "Cluster": lambda case: kf.Cluster(16, training=FAST),
    "QuantizeAware": lambda case: kf.QuantizeAware(training=FAST),
    "Quantize": lambda case: kf.Quantize("dynamic"),
    "Calibrate": lambda case: kf.Calibrate(),
    "Parallel": lambda case: kf.Parallel(),
    "Soup": lambda case: kf.Soup(),
    "Cascade": lambda case: kf.Cascade(),
    "Chained": lambda case: kf.Chained(training=FAST),
    "Stack": lambda case: kf.Stack(folds=2, training=FAST),
    "Gate": lambda case: kf.Gate(training=FAST),
    "Bagging": lambda case: kf.Bagging(2, training=FAST),
    "BatchEnsemble": lambda case: kf.BatchEnsemble(2, training=FAST),
    "Snapshots": lambda case: kf.Snapshots(2, training=_longer(2)),
    "Boost": lambda case: kf.Boost(2, training=_longer(6, learning_rate=1e-2)),  # a member no better than chance ends it
    "EarlyExits": lambda case: kf.EarlyExits([case.layer], training=FAST),
    "WeightAverage": lambda case: kf.WeightAverage(start=0.5, training=_longer(4)),
    "Chain": lambda case: kf.Chain([FAST, kf.Prune(0.5, training=None)]),
    "RandomSearch": lambda case: kf.RandomSearch(FAST, RATES, n_trials=1),
    "GridSearch": lambda case: kf.GridSearch(FAST, RATES),
    "HalvingSearch": lambda case: kf.HalvingSearch(FAST, RATES, max_epochs=2, eta=2),
    "BayesSearch": lambda case: kf.BayesSearch(FAST, RATES, n_trials=2),
    "Repeat": lambda case: kf.repeat(FAST, (0, 1)),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every kind of model for tests that take `kind`, every technique's name for those that take `name`."""
    for argument, values in (("kind", KINDS), ("name", tuple(TECHNIQUES))):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, values)


@pytest.fixture
def names() -> list[str]:
    return list(TECHNIQUES)


def mlp(data: Any, width: int = 24, seed: int = 0) -> keras.Model:
    return kf.models.mlp(data, units=(width, width), seed=seed)


def residual(data: Any, width: int = 8, seed: int = 0) -> keras.Model:
    """Convolutions with BatchNorm and shortcuts, one of them with a projection."""
    return kf.models.resnet(data, filters=(width, 2 * width), stages=2, blocks=1, seed=seed)


def attention(data: Any, width: int = 16, seed: int = 0) -> keras.Model:
    """Each image as a sequence of its rows."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(data.input_shape)
    x = keras.layers.Reshape((data.input_shape[0], -1))(inputs)
    x = keras.layers.Dense(width, name="embed")(x)
    x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(2, width // 2, name="attention")(x, x)])
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(keras.layers.GlobalAveragePooling1D()(x)))


def outputs(data: Any, width: int = 16, seed: int = 0) -> keras.Model:
    """Which digit, and whether it is even."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(data.input_shape)
    x = keras.layers.Dense(width, activation="relu", name="first")(keras.layers.Flatten()(inputs))
    x = keras.layers.Dense(width, activation="relu", name="second")(x)
    return keras.Model(inputs, {"digit": keras.layers.Dense(10, name="digit")(x), "even": keras.layers.Dense(2, name="even")(x)})


@pytest.fixture(scope="session")
def case_of() -> Callable[[str], Case]:
    """The case of a kind; each is made once."""
    digits = kf.datasets.load("digits", labels=192)

    def two(name: str) -> tuple[Any, Any]:
        split = digits.split(name)
        x, y, _ = split.head(len(split))
        return x, {"digit": np.asarray(y), "even": np.asarray(y) % 2}

    @functools.cache
    def case(kind: str) -> Case:
        data = kf.Data(**{name: two(name) for name in ("train", "validation", "test")}) if kind == "outputs" else digits
        build, layer = {
            "mlp": (mlp, "dense_1"),
            "residual": (residual, "activation"),
            "outputs": (outputs, "first"),
            "attention": (attention, "embed"),
        }[kind]
        return Case(KINDS.index(kind), data, build, layer)

    return case


@pytest.fixture(scope="session")
def works() -> Callable[..., None]:
    """Fails unless a technique's models and its figures are whole."""

    def check(made: Any, report: kf.Report, data: kf.Data) -> None:
        figures = [value for name, value in report.metrics.items() if name.startswith("test/")]
        assert figures and np.isfinite(figures).all(), report.metrics
        x = data.test.head(8)[0]
        for model in made if isinstance(made, tuple) else (made,):
            assert isinstance(model, keras.Model)
            assert all(np.isfinite(np.asarray(output)).all() for output in keras.tree.flatten(model(x, training=False)))

    return check


def _longer(epochs: int, **settings: Any) -> kf.Train:
    return dataclasses.replace(FAST, epochs=epochs, **settings)
