"""A transformer's blocks (Vaswani et al. 2017) with the normalization first, small enough to read."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """What queries take from other tokens, in several heads."""

    def __init__(self, width: int, heads: int) -> None:
        """Tokens of `width` features, which `heads` divides."""
        super().__init__()
        self.heads, self.scale = heads, math.sqrt(heads / width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Shape (N, Q, W) from queries (N, Q, W) and tokens (N, T, W), of which only those `visible` (N, T) count."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, queries), (self.key, tokens), (self.value, tokens))
        )
        scores = q @ k.transpose(2, 3) * self.scale
        if visible is not None:
            scores = scores.masked_fill(~visible[:, None, None], -math.inf)
        found: Tensor = self.out((torch.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2))
        return found


class Block(nn.Module):
    """Tokens look at each other, then at a context where there is one, then each goes through two layers."""

    def __init__(self, width: int, heads: int, context: bool = False) -> None:
        """Build it untrained."""
        super().__init__()
        self.own = Attention(width, heads)
        self.other = Attention(width, heads) if context else None
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])

    def forward(self, tokens: Tensor, context: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """Tokens (N, T, W) of which those `visible` (N, T) are looked at, with a context (N, S, W)."""
        normal = self.norms[0](tokens)
        tokens = tokens + self.own(normal, normal, visible)
        if self.other is not None:
            tokens = tokens + self.other(self.norms[1](tokens), context)
        found: Tensor = tokens + self.layers(self.norms[2](tokens))
        return found
