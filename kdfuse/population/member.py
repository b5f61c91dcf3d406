"""A member: one small dense network, trained in NumPy.

A step of such a network is a few hundred microseconds of arithmetic. What TensorFlow adds to it, a second of tracing and milliseconds of
dispatch, is many times that.
"""

from typing import Any

import numpy as np

from kdfuse.population.plan import Plan
from kdfuse.population.rules import Rule
from kdfuse.population.slopes import SLOPES
from kdfuse.population.targets import Target


class Member:
    """A network and where its training stands.

    Args:
        plan: of its Keras model, whose weights it begins with.
        l2: `l2 / 2 * sum(w ** 2)` over the kernels is added to the loss.
        seed: of dropout.

    Attributes:
        weights: all trainable parameters in one vector.
        gradient: likewise.
        parts: for each layer kernel, bias (or offset) or None, and scale or None, as views of `weights`.
        slopes: the same views of `gradient`.
        moving: for each layer with batch normalization its moving mean and variance.
    """

    def __init__(self, plan: Plan, l2: float, seed: int) -> None:
        self.plan, self.l2, self.seed = plan, np.float32(l2), seed
        self.holders = [self._holders(layer) for layer in (*plan.hidden, None)]
        shapes = [[None if one is None else tuple(one.shape) for one in holder] for holder in self.holders]
        size = sum(int(np.prod(shape)) for layer in shapes for shape in layer if shape is not None)
        self.weights, self.gradient = np.zeros(size, "float32"), np.zeros(size, "float32")
        self.parts, self.slopes = _views(self.weights, shapes), _views(self.gradient, shapes)
        for views, holder in zip(self.parts, self.holders, strict=True):
            for view, variable in zip(views, holder, strict=True):
                if view is not None:
                    view[...] = np.asarray(variable)
        norms = [layer.norm for layer in plan.hidden]
        self.begin(0)
        self.moving = [None if norm is None else [np.array(norm.moving_mean), np.array(norm.moving_variance)] for norm in norms]

    def begin(self, epoch: int) -> None:
        """Make the draws of dropout those of an epoch, whatever was drawn before."""
        self._draws = np.random.Generator(np.random.SFC64([self.seed, epoch]))

    def step(self, x: np.ndarray, rows: np.ndarray, target: Target, shares: np.ndarray, rule: Rule, rate: np.float32, count: int) -> float:
        """One step on some rows; the loss before it, the penalty included.

        Args:
            x: the rows `[rows, features]`.
            rows: their numbers.
            target: the loss.
            shares: what each row weighs in the mean `[rows]`.
            rule: how the weights move.
            rate: the learning rate.
            count: of steps, from 1.
        """
        kept, logits = self._forward(x, self._draws)
        values, gradient = target.at(rows, logits)
        loss = float(np.dot(values, shares))
        gradient *= shares[:, None]
        self._backward(kept, gradient)
        if self.l2:
            loss += self.penalty()
            for (kernel, *_), (slope, *_) in zip(self.parts, self.slopes, strict=True):
                slope += self.l2 * kernel
        rule.step(self.weights, self.gradient, rate, count)
        return loss

    def penalty(self) -> float:
        """What L2 adds to the loss."""
        if not self.l2:
            return 0.0
        return 0.5 * float(self.l2) * sum(float(np.dot(kernel.ravel(), kernel.ravel())) for kernel, *_ in self.parts)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """What the network gives for rows `[rows, features]`, the head's activation included."""
        return SLOPES[self.plan.activation]().value(self.logits(x))  # type: ignore[no-any-return]

    def logits(self, x: np.ndarray) -> np.ndarray:
        """What it gives in inference for rows `[rows, features]`, before the head's activation."""
        for place, layer in enumerate(self.plan.hidden):
            kernel, bias, scale = self.parts[place]
            x = x @ kernel
            moving = self.moving[place]
            if moving is not None:
                x = (x - moving[0]) * (scale / np.sqrt(moving[1] + np.float32(layer.norm.epsilon)))
            x = layer.activation.value(x if bias is None else x + bias)
        kernel, bias, _ = self.parts[-1]
        x = x @ kernel
        return x if bias is None else x + bias

    def write(self) -> None:
        """Give the Keras model the weights."""
        for views, holder in zip(self.parts, self.holders, strict=True):
            for view, variable in zip(views, holder, strict=True):
                if view is not None:
                    variable.assign(view)
        for layer, moving in zip(self.plan.hidden, self.moving, strict=True):
            if moving is not None:
                layer.norm.moving_mean.assign(moving[0])
                layer.norm.moving_variance.assign(moving[1])

    def _holders(self, layer: Any) -> tuple[Any, Any, Any]:
        """The Keras variables of a layer's kernel, its bias or offset, its scale."""
        dense = self.plan.head if layer is None else layer.dense
        norm = None if layer is None else layer.norm
        if norm is not None:
            return dense.kernel, norm.beta, norm.gamma
        return dense.kernel, dense.bias if dense.use_bias else None, None

    def _forward(self, x: np.ndarray, draws: Any) -> tuple[list[tuple[Any, ...]], np.ndarray]:
        """What the way back needs of each layer, and the logits."""
        kept: list[tuple[Any, ...]] = []
        if self.plan.input_rate:
            x = x * _mask(draws, x.shape, self.plan.input_rate)
        for place, layer in enumerate(self.plan.hidden):
            kernel, bias, scale = self.parts[place]
            before, z, normal = x, x @ kernel, None
            if layer.norm is not None:
                z, normal = self._normalize(place, z, scale)
            if bias is not None:
                z += bias
            value = layer.activation.value(z)
            mask = _mask(draws, value.shape, layer.rate) if layer.rate else None
            x = value if mask is None else value * mask
            kept.append((before, z, value, mask, normal))
        kernel, bias, _ = self.parts[-1]
        kept.append((x,))
        logits = x @ kernel
        return kept, logits if bias is None else logits + bias

    def _backward(self, kept: list[tuple[Any, ...]], gradient: np.ndarray) -> None:
        """Fill the gradient of all parameters from that of the logits."""
        for place in range(len(self.parts) - 1, -1, -1):
            kernel, bias, scale = self.parts[place]
            own, offset, factor = self.slopes[place]
            if place < len(self.plan.hidden):
                _, z, value, mask, normal = kept[place]
                if mask is not None:
                    gradient *= mask
                gradient = self.plan.hidden[place].activation.times(gradient, z, value)
            else:
                normal = None
            if bias is not None:
                np.sum(gradient, axis=0, out=offset)
            if normal is not None:
                gradient = _through_norm(gradient, scale, factor, *normal)
            np.matmul(kept[place][0].T, gradient, out=own)
            if place:
                gradient = gradient @ kernel.T

    def _normalize(self, place: int, z: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Batch normalization without its offset, and the normal values and inverse deviations."""
        norm, moving = self.plan.hidden[place].norm, self.moving[place]
        assert moving is not None
        mean = z.mean(axis=0)
        variance = np.square(z - mean).mean(axis=0)
        inverse = 1 / np.sqrt(variance + np.float32(norm.epsilon))
        normal = (z - mean) * inverse
        for old, new in zip(moving, (mean, variance), strict=True):
            old *= np.float32(norm.momentum)
            old += new * np.float32(1.0 - norm.momentum)
        return normal * scale, (normal, inverse)


def _through_norm(gradient: np.ndarray, scale: np.ndarray, factor: np.ndarray, normal: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The gradient before batch normalization (Ioffe and Szegedy 2015, arXiv 1502.03167); that of the scale is filled in."""
    np.sum(gradient * normal, axis=0, out=factor)
    gradient = gradient * scale
    return (gradient - gradient.mean(axis=0) - normal * (gradient * normal).mean(axis=0)) * inverse  # type: ignore[no-any-return]


def _mask(draws: Any, shape: tuple[int, ...], rate: float) -> np.ndarray:
    """What dropout multiplies with."""
    kept = np.float32(1 - rate)
    return (draws.random(shape, dtype="float32") < kept) * (1 / kept)  # type: ignore[no-any-return]


def _views(vector: np.ndarray, shapes: list[list[tuple[int, ...] | None]]) -> list[tuple[Any, Any, Any]]:
    """The parts of a vector in their shapes, without a copy."""
    start, found = 0, []
    for layer in shapes:
        views: list[Any] = []
        for shape in layer:
            size = 0 if shape is None else int(np.prod(shape))
            views.append(None if shape is None else vector[start : start + size].reshape(shape))
            start += size
        found.append(tuple(views))
    return found  # type: ignore[return-value]
