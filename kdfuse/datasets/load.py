"""Real data sets by name."""

import inspect
from typing import Any

from kdfuse.data import Data
from kdfuse.datasets.breast_cancer import load_breast_cancer
from kdfuse.datasets.cifar10 import load_cifar10
from kdfuse.datasets.digits import load_digits
from kdfuse.datasets.fashion_mnist import load_fashion_mnist
from kdfuse.datasets.mnist import load_mnist
from kdfuse.datasets.polarity import load_polarity
from kdfuse.datasets.spoken_digits import load_spoken_digits
from kdfuse.settings import choose, unknown

LOADERS = {
    "digits": load_digits,
    "breast_cancer": load_breast_cancer,
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "polarity": load_polarity,
    "spoken_digits": load_spoken_digits,
}


def load(name: str, **options: Any) -> Data:
    """A data set with its train, validation and test split.

    Bundled sets (`digits`, `breast_cancer`) need no file. The others are looked for in the folder `KDFUSE_DATA`, then in the Keras
    cache, and are downloaded from their public source last; what was found is checked by its hash.

    Args:
        name: one of `LOADERS`.
        options: of every set: `validation` (share of the training rows to set aside, 0 for none), `labels` (keep only so many
            training rows, drawn by class; None for all), `seed` (of both draws; the test split never changes). `polarity` has
            `words` and `length` besides, `spoken_digits` has `frames` and `mels`.

    Raises:
        ValueError: there is no such set, or its file is not the published one.
        TypeError: there is no such option.
        OSError: its file is nowhere and cannot be downloaded.

    Example:
        data = load("mnist", validation=0.1, labels=1000)
    """
    loader = LOADERS[choose("name", name, LOADERS)]
    known = inspect.signature(loader).parameters
    for option in options:
        if option not in known:
            raise TypeError(unknown(f"The data set {name!r}", option, known))
    return loader(**options)
