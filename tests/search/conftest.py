"""What the searches' tests share: digits, a space of small networks, one search of each kind."""

import pytest

import kdfuse as kf


@pytest.fixture(scope="package")
def data():
    return kf.datasets.load("digits")


@pytest.fixture(scope="package")
def space():
    return {
        "build__units": kf.Int(4, 32, log=True),
        "build__activation": ["relu", "tanh"],
        "training__learning_rate": kf.Float(1e-3, 1e-1, log=True),
    }
