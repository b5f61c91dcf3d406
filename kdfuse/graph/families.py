"""Families: channels of the same layers, among which some can be chosen to go."""

import dataclasses

import numpy as np

from kdfuse.graph.channels import Channels, Ids

Signature = tuple[object, ...]
Ties = dict[Signature, set[Signature]]


@dataclasses.dataclass(frozen=True)
class Family:
    """Channels that the same layers make.

    Attributes:
        roots: their numbers, in order.
        layers: paths of the layers that make them.
        tied: families of one number must keep equally many, for they are read by the groups of one convolution.
    """

    roots: tuple[int, ...]
    layers: tuple[str, ...]
    tied: int


def families(channels: Channels) -> list[Family]:
    """The families of channels that are made by layers and not protected.

    Args:
        channels: of a model.
    """
    made, ties = settle(channels)
    reasons = channels.reasons
    found: dict[tuple[object, ...], list[int]] = {}
    for root, signature in sorted(made.items()):
        if root not in reasons:
            found.setdefault(signature, []).append(root)
    numbers = {signature: place for place, signature in enumerate(found)}
    paths = {place: member.path for place, member in enumerate(channels.members.values())}
    result = []
    for signature, roots in found.items():
        tied = min((numbers[other] for other in ties.get(signature, {signature}) if other in numbers), default=numbers[signature])
        layers = dict.fromkeys(paths[part[0]] for part in signature if isinstance(part, tuple) and part[0] in paths)
        result.append(Family(tuple(roots), tuple(layers), tied))
    return result


def settle(channels: Channels) -> tuple[dict[int, Signature], Ties]:
    """Unite channels at the same place of each group of a convolution, where its groups cannot keep equally many by counts alone.

    Returns:
        For each channel that a layer makes, which layers do, and for these which others must keep equally many.
    """
    while True:
        made = _signatures(channels)
        ties = _tie(channels, made)
        if ties is not None:
            return made, ties


def _signatures(channels: Channels) -> dict[int, Signature]:
    """For each channel that a layer makes: which layers, and which groups of convolutions it lies in."""
    parts: dict[int, list[tuple[int, str]]] = {}

    def note(ids: Ids, part: tuple[int, str]) -> None:
        for root in np.unique(channels.roots(ids)).tolist():
            parts.setdefault(root, []).append(part)

    for place, member in enumerate(channels.members.values()):
        for slot in member.made:
            note(member.slots[slot], (place, slot))
    for place, block in enumerate(channels.blocks):
        for group, ids in enumerate(block):
            note(ids, (-1 - place, str(group)))
    return {root: tuple(found) for root, found in parts.items() if any(place >= 0 for place, _ in found)}


def _tie(channels: Channels, made: dict[int, Signature]) -> Ties | None:
    """Which families must keep equally many; None where channels had to be united instead."""
    reasons = channels.reasons
    ties: Ties = {}
    for block in channels.blocks:
        roots = channels.roots(block)
        if (roots == roots[:1]).all():
            continue
        free = [root not in reasons for root in roots.ravel().tolist()]
        alike = all(free) or not any(free)
        if alike and any(free):
            signatures = [[made.get(root, ()) for root in row] for row in roots.tolist()]
            for row, line in zip(signatures[1:], roots[1:].tolist(), strict=True):
                pairs = set(zip(signatures[0], row, strict=True))
                alike = alike and len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
                alike = alike and len(set(line)) == len(line) and len(set(roots[0].tolist())) == len(line)
                alike = alike and all(
                    sum(signature == one for signature in made.values()) == row_count
                    for one, row_count in ((one, row.count(one)) for one in set(row))
                )
        if not alike:
            for row in block[1:]:
                channels.unite(block[0], row)
            return None
        if any(free):
            for column in zip(*signatures, strict=True):
                together = set().union(*(ties.get(one, {one}) for one in column))
                for one in together:
                    ties[one] = together
    return ties
