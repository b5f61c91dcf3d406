"""The functional graph of a model and its steps."""

from collections.abc import Iterator
from typing import Any

from kdfuse.graph.copy import is_functional, is_sequential


def graph_of(model: Any) -> Any:
    """The functional graph that calling `model` runs; None where it does something else, or was not built."""
    if is_sequential(model):
        return model._functional
    return model if is_functional(model) else None


def nodes_of(graph: Any) -> Iterator[Any]:
    """The calls of a functional graph in an order in which they can run, without its inputs."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.operation is not None and not node.is_input:
                yield node
