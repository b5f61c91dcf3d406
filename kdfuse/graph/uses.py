"""One use of a layer in a graph: what it is called on, and what the rules of following channels need to ask."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kdfuse.graph.channels import Channels, Ids, Member, NotFollowed, Trail

MIXING = ("softmax", "log_softmax", "sparsemax", "glu")


@dataclasses.dataclass(eq=False)
class Use:
    """A node of a graph.

    Attributes:
        channels: what is known so far.
        layer: the layer or operation.
        path: its name after those of the models around it.
        args: what it is called on.
        kwargs: the rest of it.
        outputs: its symbolic outputs.
        trails: of tensors, by `id`.
    """

    channels: Channels
    layer: Any
    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Any]
    trails: dict[int, Trail | None]

    @property
    def inputs(self) -> list[Any]:
        """The symbolic tensors it is called on."""
        return [one for one in keras.tree.flatten((self.args, self.kwargs)) if isinstance(one, keras.KerasTensor)]

    @property
    def first(self) -> Any:
        """The first tensor it is called on."""
        return self.inputs[0]

    def trail(self, tensor: Any) -> Trail | None:
        """Where a tensor's channels come from, None where it has none of a known number."""
        return self.trails.get(id(tensor))

    def member(self, resize: Callable[[Any, Callable[[str], int]], None] | None = None) -> Member:
        """The member of this layer, one for all of its uses."""
        return self.channels.members.setdefault(id(self.layer), Member(self.layer, self.path, resize=resize))

    def read(self, member: Member, tensor: Any, axis: int, slot: str = "in") -> Ids | None:
        """The ids that a kernel reads along `axis` of a tensor; None, and the tensor's channels stay, where they lie along another."""
        trail = self.trail(tensor)
        if trail is None:
            return None
        if trail.axis != axis:
            self.channels.protect(trail.ids, f"{self.text} reads them along another axis")
            return None
        return self.channels.slot(member, slot, trail.ids)

    @property
    def text(self) -> str:
        """The layer in words."""
        return f"{self.path!r} ({type(self.layer).__name__})"


Rule = Callable[[Use], list[Trail | None]]


def channel_axis(layer: Any, rank: int) -> int:
    """The axis of channels of a layer with a `data_format`."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def need(condition: bool, reason: str) -> None:
    """Give up following unless `condition`."""
    if not condition:
        raise NotFollowed(reason)


def is_elementwise(function: Any) -> bool:
    """Whether an activation treats each channel by itself and all alike."""
    if function is None:
        return True
    name = getattr(function, "__name__", "")
    if getattr(keras.activations, name, None) is function:
        return name not in MIXING
    values = np.random.default_rng(0).normal(size=(3, 2, 9)).astype("float32")
    try:
        whole = np.asarray(function(values))
        return whole.shape == values.shape and all(
            np.allclose(np.asarray(function(values[..., part])), whole[..., part], atol=1e-6) for part in (slice(0, 4), slice(1, None, 3))
        )
    except Exception:  # a user's own code may raise anything on other shapes
        return False
