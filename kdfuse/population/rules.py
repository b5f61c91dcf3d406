"""Update rules of optimizers in NumPy, on one vector of parameters. The formulas are those of Keras's optimizers."""

from typing import Any

import keras
import numpy as np

REFUSED = ("clipnorm", "global_clipnorm", "clipvalue", "use_ema", "gradient_accumulation_steps", "amsgrad", "centered", "loss_scale_factor")


class Rule:
    """Plain gradient descent, and what all have in common.

    Args:
        optimizer: of Keras, whose settings are read.
        size: of the vector of parameters.
    """

    def __init__(self, optimizer: Any, size: int) -> None:
        self.decay = np.float32(optimizer.weight_decay or 0.0)
        self.moments: list[np.ndarray] = []

    def step(self, weights: np.ndarray, gradient: np.ndarray, rate: np.float32, count: int) -> None:
        """Move the weights, in place.

        Args:
            weights: `[parameters]`, float32.
            gradient: of the same shape; it may be overwritten.
            rate: the learning rate.
            count: of steps, from 1.
        """
        if self.decay:
            weights -= weights * self.decay * rate
        self.move(weights, gradient, rate, count)

    def move(self, weights: np.ndarray, gradient: np.ndarray, rate: np.float32, count: int) -> None:
        """The rule itself."""
        gradient *= rate
        weights -= gradient


class Momentum(Rule):
    """SGD with momentum, plain or Nesterov's."""

    def __init__(self, optimizer: Any, size: int) -> None:
        super().__init__(optimizer, size)
        self.momentum, self.nesterov = np.float32(optimizer.momentum), optimizer.nesterov
        self.moments = [np.zeros(size, "float32")]

    def move(self, weights: np.ndarray, gradient: np.ndarray, rate: np.float32, count: int) -> None:
        m = self.moments[0]
        gradient *= rate
        m *= self.momentum
        m -= gradient
        if self.nesterov:
            weights += m * self.momentum - gradient
        else:
            weights += m


class RMSprop(Rule):
    """Hinton's lecture 6e, 2012."""

    def __init__(self, optimizer: Any, size: int) -> None:
        super().__init__(optimizer, size)
        self.rho, self.epsilon = np.float32(optimizer.rho), np.float32(optimizer.epsilon)
        self.moments = [np.zeros(size, "float32")]

    def move(self, weights: np.ndarray, gradient: np.ndarray, rate: np.float32, count: int) -> None:
        v = self.moments[0]
        v *= self.rho
        v += (1 - self.rho) * np.square(gradient)
        gradient *= rate
        gradient /= np.sqrt(v + self.epsilon)
        weights -= gradient


class Adagrad(Rule):
    """Duchi 2011, JMLR 12."""

    def __init__(self, optimizer: Any, size: int) -> None:
        super().__init__(optimizer, size)
        self.epsilon = np.float32(optimizer.epsilon)
        self.moments = [np.full(size, optimizer.initial_accumulator_value, "float32")]

    def move(self, weights: np.ndarray, gradient: np.ndarray, rate: np.float32, count: int) -> None:
        v = self.moments[0]
        v += np.square(gradient)
        gradient *= rate
        gradient /= np.sqrt(v + self.epsilon)
        weights -= gradient


class Adam(Rule):
    """Kingma and Ba 2015, arXiv 1412.6980; with decoupled weight decay Loshchilov and Hutter 2019, arXiv 1711.05101."""

    def __init__(self, optimizer: Any, size: int) -> None:
        super().__init__(optimizer, size)
        self.betas = np.float32(optimizer.beta_1), np.float32(optimizer.beta_2)
        self.epsilon = np.float32(optimizer.epsilon)
        self.moments = [np.zeros(size, "float32"), np.zeros(size, "float32")]

    def move(self, weights: np.ndarray, gradient: np.ndarray, rate: np.float32, count: int) -> None:
        m, v = self.moments
        one = np.float32(1)
        powers = [beta ** np.float32(count) for beta in self.betas]
        alpha = rate * np.sqrt(one - powers[1]) / (one - powers[0])
        m += (gradient - m) * (one - self.betas[0])
        np.square(gradient, out=gradient)
        gradient -= v
        gradient *= one - self.betas[1]
        v += gradient
        np.sqrt(v, out=gradient)
        gradient += self.epsilon
        weights -= alpha * m / gradient


def why_no_rule(optimizer: Any) -> str | None:
    """Why an optimizer has no rule here, as the end of a sentence; None where it has one."""
    name = type(optimizer).__name__
    if _rule(optimizer) is None:
        return f"the optimizer {name} has no rule here"
    for setting in REFUSED:
        if getattr(optimizer, setting, None):
            return f"the optimizer {name} has `{setting}`"
    if isinstance(optimizer, keras.optimizers.RMSprop) and optimizer.momentum:
        return "the optimizer RMSprop has `momentum`"
    if getattr(optimizer, "_exclude_from_weight_decay", None) or getattr(optimizer, "_exclude_from_weight_decay_pattern", None):
        return f"the optimizer {name} leaves weights out of its decay"
    return None


def make_rule(optimizer: Any, size: int) -> Rule:
    """The rule of an optimizer that `why_no_rule` lets pass, for a vector of `size` parameters."""
    kind = _rule(optimizer)
    assert kind is not None
    return kind(optimizer, size)


def _rule(optimizer: Any) -> type[Rule] | None:
    if type(optimizer) is keras.optimizers.SGD:
        return Momentum if optimizer.momentum else Rule
    kinds = {
        keras.optimizers.RMSprop: RMSprop,
        keras.optimizers.Adagrad: Adagrad,
        keras.optimizers.Adam: Adam,
        keras.optimizers.AdamW: Adam,
    }
    return kinds.get(type(optimizer))
