"""Outputs of models as flat lists: a tensor, or lists, tuples and dicts of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdfuse.settings import suggest


def flat(structure: Any) -> list[Any]:
    """The leaves of `structure` in the order in which they were written, dicts too."""
    if isinstance(structure, Mapping):
        return [item for value in structure.values() for item in flat(value)]
    if isinstance(structure, list | tuple):
        return [item for value in structure for item in flat(value)]
    return [structure]


def aligned(argument: str, value: Any, like: Any, *, repeat: bool = False) -> list[Any]:
    """The leaves of `value` in the order of the leaves of `like`; dicts go by name.

    Args:
        argument: what to call `value` in an error.
        value: a leaf, or lists, tuples and dicts of leaves.
        like: the structure to follow.
        repeat: whether one leaf may stand for all.

    Raises:
        ValueError: they have different structures.
    """
    if repeat and not isinstance(value, Mapping | list | tuple):
        return [value] * len(flat(like))
    if isinstance(like, Mapping) and isinstance(value, Mapping):
        for name in like:
            if name not in value and not repeat:
                raise ValueError(f"{argument}: there is no output {name!r}. {suggest(str(name), map(str, value))}")
        return [item for name in like for item in aligned(argument, value.get(name), like[name], repeat=repeat)]
    if isinstance(like, list | tuple) and isinstance(value, list | tuple) and len(like) == len(value):
        return [item for part, model in zip(value, like, strict=True) for item in aligned(argument, part, model, repeat=repeat)]
    leaves, wanted = flat(value), flat(like)
    if len(leaves) != len(wanted):
        raise ValueError(f"{argument}: expected one for each output, {len(wanted)} in all. Received: {len(leaves)}.")
    return leaves


def names(structure: Any) -> Iterator[str | None]:
    """The name of each leaf that stands in a dict, None of the others; in the order of `flat`."""
    if isinstance(structure, Mapping):
        for name, value in structure.items():
            leaves = len(flat(value))
            yield from [str(name)] if leaves == 1 else [f"{name}/{place}" for place in range(leaves)]
    else:
        yield from [None] * len(flat(structure))


def place(owner: str, output: str | int, named: Sequence[str | None]) -> int:
    """The place of the output `output`, a name or a place, among the leaves called `named`.

    Raises:
        ValueError: there is no such output.
    """
    if isinstance(output, int) and -len(named) <= output < len(named):
        return output % len(named)
    if isinstance(output, str) and output in named:
        return named.index(output)
    known = [str(spot) if name is None else name for spot, name in enumerate(named)]
    raise ValueError(f"{owner}: there is no output {output!r}. {suggest(str(output), known)}")
