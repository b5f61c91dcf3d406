"""What a training must leave as it is."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import kdfuse as kf
from kdfuse.compress import held
from kdfuse.data import Data
from kdfuse.train import Train

L = keras.layers
X, Y = load_digits(return_X_y=True)
DATA = Data(train=((X / 16).astype("float32"), Y), validation=0.1)
ONCE = Train(epochs=1, learning_rate=1e-2, checkpoint=0)


def net() -> keras.Model:
    return keras.Sequential([keras.Input((64,)), L.Dense(8, "relu", name="a"), L.Dense(10, name="b")])


def test_sparse_kernels_are_found() -> None:
    model = net()
    kernel, bias, other, _ = model.weights
    kernel.assign(np.where(np.arange(512).reshape(64, 8) % 4 == 0, 0.0, kernel))
    ((found, mask),) = held.zeros_of(model.weights)
    assert found is kernel and mask.mean() == 0.75 and bias.numpy().sum() == 0
    other.assign(np.zeros(other.shape))
    assert len(held.zeros_of(model.weights)) == 1, "a kernel of zeros alone was begun so"


def test_biases_of_attention_are_no_kernels() -> None:
    given = keras.Input((5, 8))
    model = keras.Model(given, L.PReLU()(L.GRU(3, return_sequences=True)(L.MultiHeadAttention(2, 4)(given, given))))
    assert [weight.path.rpartition("/")[2] for weight in model.weights if held.is_kernel(weight)] == ["kernel"] * 5 + ["recurrent_kernel"]


def test_constraints_hold_and_are_given_back() -> None:
    model = net()
    kernel, _, other, _ = model.weights
    own = keras.constraints.NonNeg()
    kernel.constraint = own
    mask, value = np.arange(512).reshape(64, 8) % 2 == 0, other.numpy()
    with held.constrained([(kernel, held.Masked(mask, own)), (other, held.Fixed(value))]):
        model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        kernel.assign(kernel.constraint(kernel))
        trained = kernel.numpy()
        Train(epochs=1, checkpoint=0).fit(model, DATA)
    now = kernel.numpy()
    assert not np.array_equal(now, trained) and np.all(now[~mask] == 0) and now.min() >= 0 and np.array_equal(other.numpy(), value)
    assert kernel.constraint is own and other.constraint is None


@pytest.mark.parametrize("after", [kf.Shrink(0.5, training=ONCE), kf.ShrinkDepth(1, training=ONCE)])
def test_zeros_stay_in_the_steps_after_prune(after: kf.Technique) -> None:
    given = keras.Input((64,))
    first = L.Dense(16, "relu")(given)
    model = keras.Model(given, L.Dense(10)(L.add([first, L.Dense(16, "relu")(first)])))
    sparse, _ = kf.Prune(0.8, training=ONCE)(model, DATA)
    made, report = after(sparse, DATA)
    kernels = [weight.numpy() for weight in made.weights if held.is_kernel(weight)]
    assert min(np.mean(kernel == 0) for kernel in kernels) > 0.5
    assert any("Zeros stay zero in" in note for note in report.notes)
