from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sim.trees import tree_detach, tree_fill, tree_index, tree_leaves, tree_map, tree_put, tree_where


@dataclass(frozen=True)
class Pair:
    a: Tensor
    b: dict[str, Tensor]
    c: Tensor | None = None


def pair(value, count=3):
    return Pair(torch.full((count, 2), value), {"x": torch.full((count,), value)})


def test_map_keeps_the_structure_and_none():
    result = tree_map(lambda x, y: x + y, pair(1.0), pair(2.0))
    assert torch.equal(result.a, torch.full((3, 2), 3.0))
    assert torch.equal(result.b["x"], torch.full((3,), 3.0))
    assert result.c is None


def test_where_chooses_rows_whatever_the_rank():
    result = tree_where(torch.tensor([True, False, True]), pair(1.0), pair(2.0))
    assert result.a[:, 0].tolist() == [1.0, 2.0, 1.0]
    assert result.b["x"].tolist() == [1.0, 2.0, 1.0]


def test_where_lets_no_nan_through_from_the_other_side():
    result = tree_where(torch.tensor([True, True, True]), pair(1.0), pair(torch.nan))
    assert all(bool(torch.isfinite(leaf).all()) for _, leaf in tree_leaves(result))


def test_put_changes_only_the_rows_of_a_copy():
    before = pair(0.0)
    after = tree_put(before, torch.tensor([2, 0]), pair(5.0, count=2))
    assert after.b["x"].tolist() == [5.0, 0.0, 5.0]
    assert before.b["x"].tolist() == [0.0, 0.0, 0.0]
    assert tree_index(after, torch.tensor([1])).b["x"].tolist() == [0.0]


def test_detach_cuts_the_graph():
    leaf = torch.ones(1, requires_grad=True)
    assert not tree_detach({"x": 2.0 * leaf})["x"].requires_grad


def test_leaves_are_named_and_fill_a_tree_again():
    leaves = dict(tree_leaves((pair(1.0), [torch.zeros(1)])))
    assert list(leaves) == ["0.a", "0.b.x", "1.0"]
    filled = tree_fill((pair(0.0), [torch.ones(1)]), leaves)
    assert torch.equal(filled[0].a, torch.ones(3, 2))
    assert float(filled[1][0]) == 0.0


def test_differences_of_structure_are_named():
    with pytest.raises(ValueError, match="tree.c is None in one tree"):
        tree_map(torch.add, Pair(torch.ones(1), {}, torch.ones(1)), Pair(torch.ones(1), {}))
    with pytest.raises(ValueError, match=r"tree.b has keys \['x'\] in one tree and \[\] in another"):
        tree_map(torch.add, pair(1.0), Pair(torch.ones(3, 2), {}))
    with pytest.raises(ValueError, match="no stored tensor 'b.x'"):
        tree_fill(pair(1.0), {"a": torch.ones(3, 2)})
    with pytest.raises(ValueError, match=r"a has shape \(1,\); expected \(3, 2\)"):
        tree_fill(pair(1.0), {"a": torch.ones(1)})
