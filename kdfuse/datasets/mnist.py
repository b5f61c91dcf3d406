"""MNIST: 70,000 handwritten digits of 28x28 pixels."""

from kdfuse.data import Data
from kdfuse.datasets import files
from kdfuse.datasets.prepare import images

ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
CONTENT = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
"""SHA-256 over the bytes of the four arrays: the same arrays also come in other `.npz` containers."""
SHAPES = {"x_train": (60000, 28, 28), "y_train": (60000,), "x_test": (10000, 28, 28), "y_test": (10000,)}


def load_mnist(validation: float = 0.1, labels: int | None = None, seed: int = 0) -> Data:
    """Inputs `(28, 28, 1)` float32 in [0, 1], labels 0 to 9; the official 60,000 / 10,000 split.

    Read from `mnist.npz`, of which the contents are checked, or downloaded as `keras.datasets.mnist` does.

    Args:
        validation: share of the training rows to set aside, drawn by class; 0 for none.
        labels: keep only so many training rows, drawn by class; None for all.
        seed: of both draws.

    Reference: LeCun, Bottou, Bengio and Haffner 1998.
    """
    path = files.find(["mnist.npz"]) or files.download("mnist.npz", ORIGIN, SHA256)
    arrays, content = files.read_npz(path, SHAPES)
    if content != CONTENT:
        files.check(path, SHA256)
    return images("mnist", arrays, [str(digit) for digit in range(10)], validation, labels, seed)
