"""The flagship: residues mixed by attention, pairs mixed by triangles and dilated convolutions, and a distogram.

Three sources are added up as logits: how often each distance occurs at a separation (the prior), what known structures
of relatives say (the templates), and what the network concludes from the sequence and its profile.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protcli.models.recipe import NOT_NEGATIVE, Recipe, count, setting, share
from protcli.models.spec import ModelSpec, Prediction
from protcli.models.templates import FEATURES, TemplateMemory
from protcli.proteins.batches import Residues
from protcli.proteins.maps import LOCAL_FEATURES, distances, pair_mask, separation, upper_pairs
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE

NEAREST, NEAR, FARTHEST = 2.0, 22.0, 120.0  # A: bins of STEP from the first to the second, logarithmic to the third
STEP, BINS = 0.5, 64
LEAST_PAIRS = 1000  # of a separation, for its shares
LONGEST = 1024  # separations in the prior; longer ones share the last
REACH = 64  # residues, of the learned relative positions in attention
CLASSES, EXACT = 48, 32  # of separations: one each up to EXACT, then logarithmic up to LONGEST
DILATIONS = (1, 2, 4, 8)
GROUPS = 8  # of the convolution along the chain


@dataclass(frozen=True)
class PairMixConfig:
    """Attributes:
    channels, heads, blocks: of the residue track.
    pair_channels, pair_blocks: of the pair track, each block a bottleneck with a dilated convolution.
    bottleneck: channels of these convolutions.
    triangle: channels of the triangle multiplication in every second block; 0 for none.
    stride: residues in a row of the pair track.
    head: channels at full resolution.
    dropout: in both tracks.
    templates: most known structures of relatives that a chain is given; 0 for none.
    profile: whether it sees the profile; otherwise the sequence alone.
    local: whether the residue track also learns to predict features of residues alone, see `local_structure`.
    profile_noise: largest deviation of the noise added to a profile in training.
    profile_dropout: share of the chains that are trained without their profile, so that a bare sequence works too.
    """

    channels: int = count(128)
    heads: int = count(4)
    blocks: int = count(4, least=0)
    pair_channels: int = count(64)
    pair_blocks: int = count(8, least=0)
    bottleneck: int = count(32)
    triangle: int = count(16, least=0)
    stride: int = count(4)
    head: int = count(32)
    dropout: float = share(0.1)
    templates: int = count(4, least=0)
    profile: bool = True
    local: bool = True
    profile_noise: float = setting(0.1, range=NOT_NEGATIVE)
    profile_dropout: float = share(0.2)

    def __post_init__(self) -> None:
        if self.channels % math.lcm(self.heads, GROUPS):
            raise ValueError(f"channels={self.channels} must be a multiple of {GROUPS} and of the heads, {self.heads}")


def distance_bins() -> Tensor:
    """Edges of the bins in Å: float32 [BINS + 1]."""
    near = torch.arange(NEAREST, NEAR, STEP)
    far = torch.logspace(math.log10(NEAR), math.log10(FARTHEST), BINS + 1 - len(near))
    return torch.cat([near, far])


def separation_class(apart: Tensor) -> Tensor:
    """Class of a separation, 0 .. CLASSES - 1: int64, as the input."""
    ratio = torch.log(apart.clamp(min=1) / EXACT) / math.log(LONGEST / EXACT)
    far = EXACT + (ratio * (CLASSES - EXACT)).long()
    return torch.where(apart < EXACT, apart, far.clamp(max=CLASSES - 1))


class Attention(nn.Module):
    """Self-attention with a learned bias for each head and relative position."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.position = nn.Embedding(2 * REACH + 1, heads)
        nn.init.zeros_(self.position.weight)

    def forward(self, x: Tensor, index: Tensor, mask: Tensor) -> Tensor:
        """[B, L, C] from features, positions int64 [B, L] and the mask of residues bool [B, L]."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, L, C']
        first = index[:1]  # positions follow each other in every chain, so relative ones are the same
        relative = (first[:, None] - first[:, :, None]).clamp(-REACH, REACH) + REACH
        bias = self.position(relative).permute(0, 3, 1, 2).to(query.dtype)  # [1, heads, L, L]
        bias = bias.masked_fill(~mask[:, None, None], -1e4)
        return self.out(F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).flatten(2))


class ResidueBlock(nn.Module):
    """Attention, a gated convolution along the chain, and a feed-forward layer, each with layer norm before it."""

    def __init__(self, config: PairMixConfig) -> None:
        super().__init__()
        channels = config.channels
        self.attention_norm, self.convolution_norm, self.last_norm = (nn.LayerNorm(channels) for _ in range(3))
        self.attention = Attention(channels, config.heads)
        self.convolution = nn.Conv1d(channels, 2 * channels, 7, padding=3, groups=GROUPS)
        self.last = nn.Sequential(nn.Linear(channels, 3 * channels), nn.GELU(), nn.Linear(3 * channels, channels))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, index: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), index, mask))
        along = (self.convolution_norm(x) * mask[..., None]).mT
        x = x + self.dropout(F.glu(self.convolution(along), dim=1).mT)
        return x + self.dropout(self.last(self.last_norm(x)))


class PairBlock(nn.Module):
    """A bottleneck with a dilated convolution, then perhaps a triangle multiplication. Both begin as no change.

    Source of the triangle multiplication: Jumper et al. 2021, Nature 596:583, supplement, algorithm 11; here without
    the gate of the output, and divided by the root of the number of terms.
    """

    def __init__(self, config: PairMixConfig, dilation: int, triangle: int) -> None:
        super().__init__()
        channels, inner = config.pair_channels, config.bottleneck
        self.norm = nn.LayerNorm(channels)
        self.narrow, self.widen = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.convolution = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation)
        self.dropout = config.dropout
        last = [self.widen]
        self.triangle = triangle
        if triangle:
            self.triangle_norm = nn.LayerNorm(channels)
            self.edges = nn.Linear(channels, 4 * triangle)  # two values and their gates
            self.sum_norm, self.back = nn.LayerNorm(triangle), nn.Linear(triangle, channels)
            last.append(self.back)
        for layer in last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pairs: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """[B, P, P, C] from pairs, their mask [B, P, P, 1] and the number of each chain's rows [B, 1, 1, 1]."""
        inner = F.gelu(self.narrow(self.norm(pairs))) * mask
        inner = F.gelu(self.convolution(inner.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        # a channel is dropped in a whole row of pairs, or not
        kept = F.dropout(torch.ones_like(pairs[:, :, :1]), self.dropout, self.training)
        pairs = torch.addcmul(pairs, self.widen(inner), kept)
        if self.triangle:
            edges = F.glu(self.edges(self.triangle_norm(pairs)), dim=-1) * mask
            of_i, of_j = edges.permute(0, 3, 1, 2).chunk(2, dim=1)  # [B, T, P, P], of the edges i-k and j-k
            total = (of_i @ of_j.mT).permute(0, 2, 3, 1) / rows.sqrt()
            pairs = pairs + self.back(self.sum_norm(total))
        return pairs


class TemplateLogits(nn.Module):
    """Logits that fall with the distance of a bin from the templates' mean distance.

    Slopes and widths are learned functions of the templates' features; at first they are those of a close relative.
    """

    def __init__(self) -> None:
        super().__init__()
        last = nn.Linear(16, 2)
        nn.init.zeros_(last.weight)
        last.bias.data = torch.tensor([1.0, 0.0])
        self.trust = nn.Sequential(nn.Linear(FEATURES + 1, 16), nn.GELU(), last)

    def forward(self, logits: Tensor, features: Tensor, mean: Tensor, apart: Tensor, centres: Tensor) -> Tensor:
        """Add to logits [B, N, K] of N pairs, from their features [B, N, F], mean distances [B, N], separations [N]."""
        far = (torch.log1p(apart.to(features.dtype)) / 5)[None, :, None].expand(*features.shape[:2], 1)
        slope, width = F.softplus(self.trust(torch.cat([features, far], dim=-1)).float()).unbind(-1)
        scale = features[..., 0].float() * slope / ((width + 0.3) * (1 + mean / 20))
        return torch.addcmul(logits, scale[..., None], (centres - mean[..., None]).abs_(), value=-1)


class PairMix(nn.Module):
    """Residue track, pair track at a stride, and a distogram at full resolution."""

    any_length = True
    prior: Tensor
    bins: Tensor

    def __init__(self, config: PairMixConfig) -> None:
        super().__init__()
        self.config = config
        channels, pairs, head = config.channels, config.pair_channels, config.head
        self.register_buffer("bins", distance_bins(), persistent=False)
        self.register_buffer("prior", torch.zeros(LONGEST, BINS))
        self.residues = nn.Linear(2 * ALPHABET_SIZE + 1, channels)
        self.blocks = nn.ModuleList(ResidueBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(channels)
        self.product, self.difference = nn.Linear(channels, pairs), nn.Linear(channels, pairs)
        self.apart, self.length = nn.Embedding(CLASSES, pairs), nn.Linear(1, pairs)
        self.pair_blocks = nn.ModuleList(
            PairBlock(config, DILATIONS[number % len(DILATIONS)], config.triangle if number % 2 else 0)
            for number in range(config.pair_blocks)
        )
        self.pair_norm, self.narrow = nn.LayerNorm(pairs), nn.Linear(pairs, head)
        self.full_product, self.full_apart = nn.Linear(channels, head), nn.Embedding(CLASSES, head)
        self.hidden, self.logits = nn.Linear(head, 2 * head), nn.Linear(2 * head, BINS)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        if config.local:
            self.local = nn.Linear(channels, LOCAL_FEATURES)
        if config.templates:
            self.memory = TemplateMemory(config.templates)
            self.of_templates, self.full_of_templates = nn.Linear(FEATURES, pairs), nn.Linear(FEATURES, head)
            self.template_logits = TemplateLogits()

    @property
    def centres(self) -> Tensor:
        """Centres of the bins in Å: [BINS]."""
        return (self.bins[1:] + self.bins[:-1]) / 2

    @torch.no_grad()
    def prepare(self, proteins: Sequence[Protein], atom: str) -> None:
        """Take the prior, and the templates, from the training proteins.

        The prior is the logarithm of the share of each bin among the pairs of a separation and those near it, so that
        the untrained network predicts about their mean distance.
        """
        counts = torch.zeros(LONGEST, BINS)
        for protein in proteins:
            points = torch.from_numpy(protein.atom(atom)[:LONGEST])
            resolved = ~points.isnan().any(dim=-1)
            pairs = upper_pairs(resolved)
            inside = torch.bucketize(distances(points.nan_to_num())[pairs], self.bins[1:-1].cpu())
            place = separation(len(points))[pairs] * BINS + inside
            counts.view(-1).index_add_(0, place, torch.ones(len(place)))
        self.prior.copy_(_log_shares(counts.double().numpy()))
        if self.config.templates:
            self.memory.remember(proteins, atom)

    def forward(self, residues: Residues) -> Prediction:
        config, mask = self.config, residues.mask
        length, stride = residues.sequence.shape[1], config.stride
        position = residues.index[0]  # all chains of a batch have their residues at the same distances along the chain
        lengths = mask.sum(dim=1).to(residues.profile.dtype)  # [B]
        x = self._residue_track(residues)  # [B, L, C]
        # one row more than fit, so that a chain ends in empty rows whatever it is padded to
        rows = -(-length // stride) + 1
        missing = rows * stride - length
        present = F.pad(mask, (0, missing)).unflatten(1, (rows, stride))  # [B, P, stride]
        coarse = F.pad(x, (0, 0, 0, missing)).unflatten(1, (rows, stride)).sum(dim=2)
        coarse = coarse / present.sum(dim=2).clamp(min=1)[..., None]
        product, difference = self.product(coarse), self.difference(coarse)
        pairs = product[:, :, None] * product[:, None] + (difference[:, :, None] - difference[:, None]).abs()
        firsts = torch.cat([position[::stride], position[-1:] + stride])  # of each row
        pairs = pairs + self.apart(separation_class((firsts[:, None] - firsts).abs()))
        pairs = pairs + self.length((lengths.log() - 5)[:, None, None, None])
        if config.templates:
            features, mean = self.memory(residues).pairs()
            features = features.to(x.dtype)
            pooled = F.avg_pool2d(F.pad(features.permute(0, 3, 1, 2), (0, missing, 0, missing)), stride)
            pairs = pairs + self.of_templates(pooled.permute(0, 2, 3, 1))
        both = pair_mask(present.any(dim=2))[..., None].to(pairs.dtype)
        counted = present.any(dim=2).sum(dim=1).to(pairs.dtype)[:, None, None, None]
        pairs = pairs * both
        for block in self.pair_blocks:
            pairs = block(pairs, both, counted)
        pairs = self.narrow(self.pair_norm(pairs)) * both
        pairs = (pairs + pairs.transpose(1, 2)).permute(0, 3, 1, 2)
        pairs = F.interpolate(pairs, scale_factor=stride, mode="bilinear")[..., :length, :length]
        # at full resolution, each of the N = L (L + 1) / 2 pairs i <= j once
        i, j = torch.triu_indices(length, length, device=x.device)
        places, apart, product = i * length + j, position[j] - position[i], self.full_product(x)
        full = _of_pairs(pairs.permute(0, 2, 3, 1), places) + product.index_select(1, i) * product.index_select(1, j)
        full = full + self.full_apart(separation_class(apart))  # [B, N, head]
        logits = self.prior[apart.clamp(max=LONGEST - 1)]  # [N, K]
        if config.templates:
            of_pairs = _of_pairs(features, places)
            full = full + self.full_of_templates(of_pairs)
            logits = self.template_logits(logits, of_pairs, _of_pairs(mean, places), apart, self.centres)
        logits = logits + self.logits(F.gelu(self.hidden(F.gelu(full)))).float()
        with torch.autocast(logits.device.type, enabled=False):
            distance = logits.softmax(dim=-1) @ self.centres
        both_ways = _numbers_of_pairs(length, i, j)
        whole = logits.index_select(1, both_ways).unflatten(1, (length, length))
        distance = distance.masked_fill(i == j, 0)[:, both_ways].unflatten(1, (length, length))
        return Prediction(distance, whole, self.bins, self.local(x) if config.local else None)

    def _residue_track(self, residues: Residues) -> Tensor:
        """Features of residues: [B, L, C], zero in padding."""
        present = residues.mask[..., None].to(residues.profile.dtype)
        one_hot, profile = residues.one_hot(), residues.profile
        alone = torch.cat([one_hot[..., :-1], present - one_hot[..., -1:]], dim=-1)  # as `residues.sequence_profile`
        if not self.config.profile:
            profile = alone
        elif self.training:
            size = (len(profile), 1, 1)
            noise = self.config.profile_noise * torch.rand(size, device=profile.device)
            without = torch.rand(size, device=profile.device) < self.config.profile_dropout
            profile = torch.where(without, alone, profile + noise * torch.randn_like(profile)) * present
        x = self.residues(torch.cat([one_hot, profile, present], dim=-1))
        for block in self.blocks:
            x = block(x, residues.index, residues.mask)
        return self.norm(x) * present


def _of_pairs(full: Tensor, places: Tensor) -> Tensor:
    """The pairs at some places of the flattened map: [B, N, ...] from [B, L, L, ...]."""
    return full.flatten(1, 2).index_select(1, places)


def _numbers_of_pairs(length: int, i: Tensor, j: Tensor) -> Tensor:
    """The number among N pairs i <= j of each place of the flattened map, in both orders: int64 [L * L]."""
    numbers = torch.empty(length, length, dtype=torch.int64, device=i.device)
    numbers[i, j] = numbers[j, i] = torch.arange(len(i), device=i.device)
    return numbers.flatten()


def _log_shares(counts: np.ndarray) -> Tensor:
    """Logarithm of the share of each bin at each separation, from counts [separations, bins].

    Separations of 8 and more are counted with their neighbours up to a sixteenth away. Beyond the last one with at
    least LEAST_PAIRS pairs (in a small set, with any), its shares go on.
    """
    sums = np.concatenate([np.zeros_like(counts[:1]), np.cumsum(counts, axis=0)])
    apart = np.arange(len(counts))
    near = np.where(apart < 8, 0, np.maximum(apart // 16, 1))
    low, high = np.maximum(apart - near, 0), np.minimum(apart + near + 1, len(counts))
    smooth = sums[high] - sums[low]
    pairs = smooth.sum(axis=1)
    last = np.flatnonzero(pairs >= (LEAST_PAIRS if pairs.max() >= LEAST_PAIRS else 1))[-1:].sum()
    smooth[last:] = smooth[last]
    shares = smooth + 0.05
    return torch.from_numpy(np.log(shares / shares.sum(axis=1, keepdims=True))).float()


_RECIPE = Recipe(
    epochs=12,
    batch_size=8,
    lr=1e-3,
    optimizer="adamw",
    loss="distogram-mse",
    weight_decay=0.01,
    schedule="cosine",
    warmup=0.05,
    max_grad_norm=1.0,
    ema=0.995,
    crop=256,
    random_crop=True,
    padded_lengths=(64, 128, 192, 256),
    note="A first recipe, not tuned.",
)

SPECS = (
    ModelSpec(
        name="pairmix",
        network=PairMix,
        config=PairMixConfig(),
        recipe=_RECIPE,
        summary="flagship: residue and pair tracks, templates of relatives, a distogram",
    ),
)
