"""What each kernel is pruned to: the settings by layer's name, and what cannot be."""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from kdfuse.compress.kernels import Kernel, Spared
from kdfuse.compress.patterns import Block, NofM, Pattern
from kdfuse.settings import suggest

WILD = "*?["


@dataclasses.dataclass(frozen=True)
class Target:
    """What a kernel is pruned to.

    Attributes:
        sparsity: at the end, in [0, 1); None where a threshold or N of M decides.
        pattern: N of M, blocks, or None for single weights.
        own: whether it has a sparsity of its own, and takes no part in a global one.
    """

    sparsity: float | None
    pattern: Pattern | None
    own: bool = False


def check_sparsity(name: str, value: Any) -> None:
    """Raise unless `value` is a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{name}: expected a share of zeros in [0, 1). Received: {value!r}.")


def check_layers(layers: Any) -> None:
    """Raise unless `layers` is None or a dict of names to None, a sparsity, `NofM(...)` or `Block(...)`."""
    if layers is None:
        return
    if not isinstance(layers, Mapping) or not all(isinstance(name, str) for name in layers):
        raise TypeError(f"`layers`: expected a dict such as {{'dense_2': None, 'conv*': 0.5}}. Received: {layers!r}.")
    for name, value in layers.items():
        if value is not None and not isinstance(value, NofM | Block):
            check_sparsity(f"`layers`: {name!r}", value)


def resolve(
    kernels: Sequence[Kernel], spared: Sequence[Spared], layers: Mapping[str, Any] | None, sparsity: float | None, pattern: Pattern | None
) -> tuple[list[tuple[Kernel, Target]], list[Spared]]:
    """The kernels to prune with their targets, and what is spared and why.

    Args:
        kernels: of the model.
        spared: what else has weights.
        layers: settings by name. A name is that of a layer, of what holds it (a nested model, a recurrent layer), a path or the end of
            one; `*` and `?` stand for letters. An exact name goes before a pattern, of two that fit the first.
        sparsity: of all others.
        pattern: of all others.

    Raises:
        ValueError: a name that fits no layer, or one without a kernel; nothing to prune; a pattern that a kernel cannot have.
    """
    rules = sorted((layers or {}).items(), key=lambda rule: _wild(rule[0]))
    _check_names(rules, kernels, spared)
    chosen: list[tuple[Kernel, Target]] = []
    left = list(spared)
    for kernel in kernels:
        rule = next((rule for rule in rules if fits(rule[0], kernel.layer) and not (kernel.asked and _wild(rule[0]))), None)
        if rule is None and kernel.asked:
            left.append(Spared(kernel.layer, kernel.name, kernel.size, kernel.asked))
        elif rule is not None and rule[1] is None:
            left.append(Spared(kernel.layer, kernel.name, kernel.size, f"left out by layers={{{rule[0]!r}: None}}"))
        else:
            chosen.append((kernel, _target(None if rule is None else rule[1], sparsity, pattern, kernel)))
    if not chosen:
        why = "; ".join(f"{one.layer}: {one.why}" for one in left[:8]) or "it has no weights"
        raise ValueError(f"`model`: nothing to prune. {why}. Name layers to prune in `layers`.")
    for kernel, target in chosen:
        if isinstance(target.pattern, NofM) and kernel.inputs <= target.pattern.n:
            raise ValueError(
                f"`pattern`: {kernel.layer!r} reads {kernel.inputs} input{'s' * (kernel.inputs > 1)}, and {target.pattern.n} of "
                f"{target.pattern.m} leaves all its weights. Leave it out, layers={{{kernel.layer!r}: None}}, or give it a sparsity, "
                f"layers={{{kernel.layer!r}: 0.5}}."
            )
    return chosen, left


def fits(name: str, path: str) -> bool:
    """Whether a name or pattern means the layer at a path, or what holds it."""
    names = path.split("/")
    parts = ("/".join(names[start:end]) for end in range(1, len(names) + 1) for start in range(end))
    return any(fnmatch.fnmatchcase(part, name) if _wild(name) else part == name for part in parts)


def _target(value: Any, sparsity: float | None, pattern: Pattern | None, kernel: Kernel) -> Target:
    if value is None:
        return Target(None if isinstance(pattern, NofM) else sparsity, pattern)
    if isinstance(value, NofM):
        return Target(None, value, own=True)
    if isinstance(value, Block):
        if sparsity is None:
            raise ValueError(f"`layers`: {kernel.layer!r} has blocks, and no sparsity says how many stay. Give `sparsity`.")
        return Target(sparsity, value, own=True)
    return Target(float(value), pattern if isinstance(pattern, Block) else None, own=True)


def _check_names(rules: Sequence[tuple[str, Any]], kernels: Sequence[Kernel], spared: Sequence[Spared]) -> None:
    for name, value in rules:
        if any(fits(name, kernel.layer) for kernel in kernels):
            continue
        there = [one for one in spared if fits(name, one.layer)]
        if not there:
            paths = [*(one.layer for one in kernels), *(one.layer for one in spared)]
            known = dict.fromkeys([*paths, *(part for path in paths for part in path.split("/"))])
            raise ValueError(f"`layers`: no layer with weights is called {name!r}. {suggest(name, known)}")
        if value is not None:
            raise ValueError(f"`layers`: {name!r} has no kernel that can be pruned ({there[0].why}). Leave it out of `layers`.")


def _wild(name: str) -> bool:
    return any(sign in name for sign in WILD)
