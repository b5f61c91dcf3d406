import keras
import pytest

from kdfuse.population.plan import read
from kdfuse.population.slopes import Relu

layers = keras.layers


def net(*inner, shape=(4,)):
    return keras.Sequential([keras.Input(shape), *inner])


def test_a_network_is_read_layer_by_layer():
    model = net(
        layers.Flatten(), layers.Dropout(0.1), layers.Dense(5, use_bias=False), layers.BatchNormalization(), layers.ReLU(6.0),
        layers.Dropout(0.2), layers.Dense(3, activation="tanh"), layers.Dense(2, activation="softmax"), shape=(2, 2),
    )  # fmt: skip
    plan = read(model)
    assert (plan.features, plan.input_rate, plan.activation, plan.head.units) == (4, 0.1, "softmax", 2)
    one, other = plan.hidden
    assert one.norm is model.layers[3] and one.activation == Relu(max_value=6.0) and one.rate == pytest.approx(0.2)
    assert other.norm is None and other.activation.name == "tanh" and other.rate == 0


def frozen():
    layer = layers.Dense(3)
    layer.trainable = False
    return layer


def skipped():
    x = inputs = keras.Input((4,))
    x = layers.Dense(4, name="one")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Add(name="sum")([x, inputs])))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: net(layers.Conv1D(2, 1), layers.Flatten(), layers.Dense(2), shape=(4, 1)), "(Conv1D) is neither dense"),
        (lambda: net(layers.Dense(3, kernel_constraint="max_norm"), layers.Dense(2)), "constraint"),
        (lambda: net(layers.Dense(3, kernel_regularizer="l2"), layers.Dense(2)), "adds to the loss"),
        (lambda: net(layers.Dense(3, dtype="mixed_bfloat16"), layers.Dense(2)), "computes in bfloat16"),
        (lambda: net(frozen(), layers.Dense(2)), "frozen"),
        (lambda: net(layers.Dense(3, activation="relu"), layers.BatchNormalization(), layers.Dense(2)), "does not directly follow"),
        (lambda: net(layers.Dense(3, activation="relu"), layers.ReLU(), layers.Dense(2)), "second activation"),
        (lambda: net(layers.Dense(3, activation="hard_sigmoid"), layers.Dense(2)), "'hard_sigmoid'"),
        (lambda: net(layers.Dense(3, activation="softmax"), layers.Dense(2)), "hidden layer is softmax"),
        (lambda: net(layers.Dense(2), layers.Dropout(0.5)), "last layer"),
        (lambda: net(layers.Dense(2, activation="relu")), "head is relu"),
        (lambda: net(layers.Dense(2), shape=(3, 4)), "several axes"),
        (lambda: net(layers.Flatten()), "no dense layer"),
        (lambda: net(layers.BatchNormalization(), layers.Dense(2)), "before the first dense layer"),
        (lambda: net(layers.Dense(3), layers.BatchNormalization(scale=False), layers.Dense(2)), "no scale"),
        (skipped, "neither dense"),
        (lambda: keras.Sequential([layers.Dense(2)]), "no graph of layers"),
    ],
)
def test_what_is_no_chain_of_dense_layers_says_why(make, said):
    assert said in read(make())


def gelu(z):
    return z


@pytest.mark.parametrize("activation", [gelu, lambda z: z, "mish"])
def test_a_function_that_only_bears_the_name_is_not_taken_for_it(activation):
    assert "has the activation" in read(net(layers.Dense(4, activation), layers.Dense(2)))


def test_a_bias_before_batch_normalization_is_refused():
    assert "use_bias=False" in read(net(layers.Dense(4), layers.BatchNormalization(), layers.Dense(2)))
