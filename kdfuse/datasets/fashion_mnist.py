"""Fashion-MNIST: 70,000 pictures of clothes of 28x28 pixels."""

import gzip
from pathlib import Path

import numpy as np

from kdfuse.data import Data
from kdfuse.datasets import files
from kdfuse.datasets.prepare import images

ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def load_fashion_mnist(validation: float = 0.1, labels: int | None = None, seed: int = 0) -> Data:
    """Inputs `(28, 28, 1)` float32 in [0, 1], labels 0 to 9; the official 60,000 / 10,000 split.

    Read from the four published files in `fashion-mnist/`, or downloaded as `keras.datasets.fashion_mnist` does, and checked by the
    SHA-256 of each (which Keras itself does not check).

    Args:
        validation: share of the training rows to set aside, drawn by class; 0 for none.
        labels: keep only so many training rows, drawn by class; None for all.
        seed: of both draws.

    Reference: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747.
    """
    arrays = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        arrays[f"y_{part}"] = _read(f"{prefix}-labels-idx1-ubyte.gz", offset=8)
        arrays[f"x_{part}"] = _read(f"{prefix}-images-idx3-ubyte.gz", offset=16).reshape(-1, 28, 28)
    return images("fashion_mnist", arrays, NAMES, validation, labels, seed)


def _read(name: str, offset: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(_file(name).read_bytes()), np.uint8, offset=offset)


def _file(name: str) -> Path:
    path = files.find([f"fashion-mnist/{name}"]) or files.download(name, ORIGIN + name, SHA256[name], folder="fashion-mnist")
    return files.check(path, SHA256[name])
