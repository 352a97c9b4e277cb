"""Mapping over nested dataclasses, dicts and tuples of tensors, such as `sim.tasks.quadrotor.Simulation`.

A leaf is a tensor. None and plain values (numbers, strings) are carried over from the first tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def tree_map(function: Callable[..., Tensor], *trees: T) -> T:
    """A tree like the first one, with `function` of the trees' leaves at each place.

    Raises:
        ValueError: The trees differ in structure; the message names the place.
    """
    result: T = _map(function, trees, "tree")
    return result


def tree_where(mask: Tensor, a: T, b: T) -> T:
    """`a` where `mask` (N) is true, else `b`, on leaves (N, ...)."""

    def select(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y)

    return tree_map(select, a, b)


def tree_detach(tree: T) -> T:
    """The same values, cut off from the graph of gradients."""
    return tree_map(torch.Tensor.detach, tree)


def tree_index(tree: T, index: Any) -> T:
    """`leaf[index]` of every leaf."""
    return tree_map(lambda leaf: leaf[index], tree)


def tree_put(tree: T, index: Tensor, part: T) -> T:
    """A copy of `tree` in which the rows `index` (K) of leaves (N, ...) are those of `part` (K, ...)."""
    return tree_map(lambda leaf, rows: leaf.index_copy(0, index, rows), tree, part)


def tree_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every leaf with its place, e.g. `("state.position", tensor)`."""
    if isinstance(tree, Tensor):
        yield prefix, tree
        return
    for name, child in _children(tree):
        yield from tree_leaves(child, f"{prefix}.{name}" if prefix else name)


def tree_fill(tree: T, leaves: Mapping[str, Tensor]) -> T:
    """A tree like `tree` with the leaves that `tree_leaves` named.

    Raises:
        ValueError: A leaf is missing or has another shape.
    """
    names = iter([name for name, _ in tree_leaves(tree)])

    def replacement(leaf: Tensor) -> Tensor:
        name = next(names)
        if name not in leaves:
            raise ValueError(f"there is no stored tensor {name!r}")
        stored = leaves[name]
        if stored.shape != leaf.shape:
            raise ValueError(f"{name} has shape {tuple(stored.shape)}; expected {tuple(leaf.shape)}")
        return stored.to(device=leaf.device, dtype=leaf.dtype).clone()

    return tree_map(replacement, tree)


def _children(tree: Any) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    if isinstance(tree, Mapping):
        return [(str(key), value) for key, value in tree.items()]
    if isinstance(tree, (tuple, list)):
        return [(str(index), value) for index, value in enumerate(tree)]
    return []


def _map(function: Callable[..., Tensor], trees: tuple[Any, ...], place: str) -> Any:
    first = trees[0]
    if any((other is None) != (first is None) for other in trees):
        raise ValueError(f"{place} is None in one tree and not in another")
    if isinstance(first, Tensor):
        return function(*trees)
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        values = {
            field.name: _map(function, tuple(getattr(t, field.name) for t in trees), f"{place}.{field.name}")
            for field in dataclasses.fields(first)
        }
        return dataclasses.replace(first, **values)
    if isinstance(first, Mapping):
        for other in trees[1:]:
            if other.keys() != first.keys():
                raise ValueError(f"{place} has keys {sorted(first)} in one tree and {sorted(other)} in another")
        return {key: _map(function, tuple(t[key] for t in trees), f"{place}.{key}") for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(other) != len(first) for other in trees):
            raise ValueError(f"{place} has lengths {[len(t) for t in trees]}")
        items = [_map(function, tuple(t[i] for t in trees), f"{place}[{i}]") for i in range(len(first))]
        return type(first)(items)
    return first
