"""Study A's further work: learned embeddings, and attention within and between the sequence and the profile."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from protcli.models.layers import FeatureInput
from protcli.models.recipe import Recipe, at_least, count, setting, share
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Residues
from protcli.proteins.maps import distances
from protcli.proteins.residues import ALPHABET_SIZE

LONGEST_WAVE = 10_000  # residues, of the position encoding


@dataclass(frozen=True)
class CrossAttnConfig:
    """Attributes:
    channels: width of both branches.
    heads: of each attention; they divide the channels.
    blocks: each of self-attention, cross attention and a feed-forward layer, for both branches.
    dropout: after each of these.
    points: dimensions of the space in which the distances are measured; with 3 they are distances of real points, and
        with more they can be means over many structures.
    features: numbers from elsewhere that it reads for each residue; true for as many as the data have.
    """

    channels: int = count(128)
    heads: int = count(4)
    blocks: int = count(3, least=0)
    dropout: float = share(0.1)
    points: int = count(32)
    features: int | bool = setting(False, range=at_least(0), later=True)

    def __post_init__(self) -> None:
        if self.channels % (2 * self.heads):
            raise ValueError(f"channels={self.channels} must be a multiple of twice the heads, {2 * self.heads}")


def position_encoding(index: Tensor, channels: int) -> Tensor:
    """Sines and cosines of positions [B, L]: float32 [B, L, channels]. Source: Vaswani et al. 2017."""
    rates = torch.exp(torch.arange(0, channels, 2, device=index.device) * (-math.log(LONGEST_WAVE) / channels))
    angles = index[..., None].float() * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class Exchange(nn.Module):
    """One branch's part of a block: it attends to itself, then to the other branch, then to each residue alone.

    Layer norm comes before each part. Batch norm over residues is in the feed-forward layer, where padding counts as in
    any convolution; everywhere else padding is masked.
    """

    def __init__(self, config: CrossAttnConfig) -> None:
        super().__init__()
        channels = config.channels
        self.own_norm, self.cross_norm, self.last_norm = (nn.LayerNorm(channels) for _ in range(3))
        self.own, self.cross = (
            nn.MultiheadAttention(channels, config.heads, config.dropout, batch_first=True) for _ in range(2)
        )
        self.widen, self.narrow = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.batch_norm = nn.BatchNorm1d(2 * channels)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, other: Tensor, padding: Tensor) -> Tensor:
        """[B, L, C] from this branch, the other one, and True at padding [B, L]."""
        normed = self.own_norm(x)
        x = x + self.dropout(self.own(normed, normed, normed, key_padding_mask=padding, need_weights=False)[0])
        attended, _ = self.cross(self.cross_norm(x), other, other, key_padding_mask=padding, need_weights=False)
        x = x + self.dropout(attended)
        wide = self.batch_norm(self.widen(self.last_norm(x)).mT).mT
        return x + self.dropout(self.narrow(nn.functional.gelu(wide)))


class CrossAttn(nn.Module):
    """Two branches, blocks in which they attend to themselves and to each other, and points and their distances."""

    reads_features = True

    def __init__(self, config: CrossAttnConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.embedding = nn.Embedding(ALPHABET_SIZE, channels)
        self.profile = nn.Linear(ALPHABET_SIZE, channels)
        self.of_sequence = nn.ModuleList(Exchange(config) for _ in range(config.blocks))
        self.of_profile = nn.ModuleList(Exchange(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(2 * channels)
        self.points = nn.Linear(2 * channels, config.points)
        if config.features:
            self.features = FeatureInput(config.features, channels)

    def forward(self, residues: Residues) -> Prediction:
        encoding = position_encoding(residues.index, self.config.channels)
        padding = ~residues.mask
        sequence = self.embedding(residues.sequence) + encoding.to(residues.profile.dtype)
        if self.config.features:
            sequence = sequence + self.features(residues)
        profile = self.profile(residues.profile) + encoding.to(residues.profile.dtype)
        for of_sequence, of_profile in zip(self.of_sequence, self.of_profile, strict=True):
            sequence, profile = of_sequence(sequence, profile, padding), of_profile(profile, sequence, padding)
        points = self.points(self.norm(torch.cat([sequence, profile], dim=-1)))  # [B, L, points]
        scale = 10.0  # A: random points then begin at distances like those of residues
        return Prediction(distances(scale * points.float()))


_CROSSATTN = ModelSpec(
    name="crossattn",
    network=CrossAttn,
    config=CrossAttnConfig(),
    recipe=Recipe(
        epochs=20,
        batch_size=8,
        lr=5e-4,
        optimizer="adamw",
        weight_decay=0.01,
        schedule="cosine",
        warmup=0.05,
        max_grad_norm=1.0,
        note="A common recipe for transformers; not tuned.",
    ),
    summary="study A's further work: attention within and between sequence and profile, to points in 32 dimensions",
)

SPECS = (_CROSSATTN,)
