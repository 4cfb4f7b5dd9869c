"""The flagship: residues mixed by attention, pairs mixed by triangles and dilated convolutions, and a distogram.

Three sources are added up as logits: how often each distance occurs at a separation (the prior), what known structures
of relatives say (the templates), and what the network concludes from the sequence and its profile.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protcli.models.layers import FeatureInput
from protcli.models.recipe import NOT_NEGATIVE, Recipe, at_least, count, setting, share
from protcli.models.spec import ModelSpec, Prediction
from protcli.models.templates import FEATURES, TemplateMemory
from protcli.proteins.batches import Residues
from protcli.proteins.maps import LOCAL_FEATURES, distances, pair_mask, separation, upper_pairs
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, DSSP

NEAREST, NEAR, FARTHEST = 2.0, 22.0, 120.0  # A: bins of STEP from the first to the second, logarithmic to the third
STEP, BINS = 0.5, 64
LEAST_PAIRS = 1000  # of a separation, for its shares
LONGEST = 1024  # separations in the prior; longer ones share the last
REACH = 64  # residues, of the learned relative positions in attention
CLASSES, EXACT = 48, 32  # of separations: one each up to EXACT, then logarithmic up to LONGEST
DILATIONS = (1, 2, 4, 8)
GROUPS = 8  # of the convolution along the chain

TemplatePairs = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class PairMixConfig:
    """Attributes:
    channels, heads, blocks: of the residue track.
    pair_channels, pair_blocks: of the pair track, each block a bottleneck with a dilated convolution.
    bottleneck: channels of these convolutions.
    triangle: channels of the triangle multiplication in every second block; 0 for none.
    stride: residues in a row of the pair track.
    head: channels at full resolution.
    looks: how many of the stride x stride residue pairs in each pair of rows a training step looks at, drawn anew.
    dropout: in both tracks.
    templates: most known structures of relatives that a chain is given; 0 for none.
    profile: whether it sees the profile; otherwise the sequence alone.
    local: whether the residue track also learns to predict features of residues alone, see `local_structure`.
    secondary: whether these include the secondary structure, where the data have it.
    profile_noise: largest deviation of the noise added to a profile in training.
    profile_dropout: share of the chains that are trained without their profile, so that a bare sequence works too.
    features: numbers from elsewhere that it reads for each residue; true for as many as the data have.
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
    looks: int = count(1)
    dropout: float = share(0.1)
    templates: int = count(4, least=0)
    profile: bool = True
    local: bool = True
    secondary: bool = False
    profile_noise: float = setting(0.1, range=NOT_NEGATIVE)
    profile_dropout: float = share(0.2)
    features: int | bool = setting(False, range=at_least(0), later=True)

    def __post_init__(self) -> None:
        if self.channels % math.lcm(self.heads, GROUPS):
            raise ValueError(f"channels={self.channels} must be a multiple of {GROUPS} and of the heads, {self.heads}")
        if self.looks > self.stride**2:
            raise ValueError(f"looks={self.looks} must be at most {self.stride**2}, the square of stride")


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


def dropped(x: Tensor, share: float) -> Tensor:
    """`F.dropout` by 16 random bits for each value, which takes a third of the time of its own on a CPU."""
    if not share:
        return x
    words = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 4),), device=x.device)
    kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= round(share * 2**16) - 2**15
    return x * kept.to(x.dtype).div_(1 - share)


def between(rows: Tensor, dim: int, offset: int, stride: int, count: int) -> Tensor:
    """Rows of `stride` residues interpolated at residue `offset` of each of the first `count`; one more must be there.

    As `F.interpolate` does with `linear`.
    """
    shift = (offset + 0.5) / stride - 0.5  # from the middle of a row
    here = rows.narrow(dim, 0, count)
    if shift < 0:
        there = torch.cat([rows.narrow(dim, 0, 1), rows], dim).narrow(dim, 0, count)
    else:
        there = rows.narrow(dim, 1, count)
    return torch.lerp(here, there, abs(shift))


class Attention(nn.Module):
    """Self-attention with a learned bias for each head and relative position."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.position = nn.Embedding(2 * REACH + 1, heads)
        nn.init.zeros_(self.position.weight)

    def forward(self, x: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        """[B, L, C] from features and what is added to the scores: [heads, L, L] for all chains, [B, L] for a key."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.flatten(1, 2)  # each [B * heads, L, C / heads]
        scores = (bias + hidden[:, None, None]).to(qkv.dtype).flatten(0, 1)
        scores = scores.baddbmm_(query / math.sqrt(query.shape[-1]), key.mT)
        mixed = (scores.softmax(dim=-1).to(value.dtype) @ value).unflatten(0, (len(x), self.heads))
        return self.out(mixed.transpose(1, 2).flatten(2))


class ResidueBlock(nn.Module):
    """Attention, a gated convolution along the chain, and a feed-forward layer, each with layer norm before it."""

    def __init__(self, config: PairMixConfig) -> None:
        super().__init__()
        channels = config.channels
        self.attention_norm, self.convolution_norm, self.last_norm = (nn.LayerNorm(channels) for _ in range(3))
        self.attention = Attention(channels, config.heads)
        self.convolution = nn.Conv1d(channels, 2 * channels, 7, padding=3, groups=GROUPS)
        self.last = nn.Sequential(nn.Linear(channels, 3 * channels), nn.GELU(), nn.Linear(3 * channels, channels))
        self.dropout = config.dropout

    def forward(self, x: Tensor, bias: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        share = self.dropout if self.training else 0.0
        x = x + dropped(self.attention(self.attention_norm(x), bias, hidden), share)
        along = (self.convolution_norm(x) * mask[..., None]).mT
        x = x + dropped(F.glu(self.convolution(along), dim=1).mT, share)
        return x + dropped(self.last(self.last_norm(x)), share)


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

    def forward(self, features: Tensor, mean: Tensor, apart: Tensor, centres: Tensor) -> Tensor:
        """[C, ..., K] of pairs, from their features [C, ..., F], mean distances [C, ...] and separations [...]."""
        far = (torch.log1p(apart.to(features.dtype)) / 5)[..., None].expand(*features.shape[:-1], 1)
        slope, width = F.softplus(self.trust(torch.cat([features, far], dim=-1)).float()).unbind(-1)
        scale = features[..., 0].float() * slope / ((width + 0.3) * (1 + mean / 20))
        return -scale[..., None] * (centres - mean[..., None]).abs_()


class PairMix(nn.Module):
    """Residue track, pair track at a stride, and a distogram at full resolution."""

    any_length = reads_features = True
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
            self.local = nn.Linear(channels, LOCAL_FEATURES + config.secondary * len(DSSP))
        if config.templates:
            self.memory = TemplateMemory(config.templates)
            self.of_templates, self.full_of_templates = nn.Linear(FEATURES, pairs), nn.Linear(FEATURES, head)
            self.template_logits = TemplateLogits()
        if config.features:
            self.features = FeatureInput(config.features, channels)

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
        config, length = self.config, residues.sequence.shape[1]
        x = self._residue_track(residues)  # [B, L, C]
        templates = self._templates(residues, x.dtype) if config.templates else None
        pairs = self._pair_track(x, residues, templates)  # [B, P, P, head]
        position = residues.index[0]  # all chains of a batch have their residues at the same distances along the chain
        look = partial(self._look, pairs, self.full_product(x), position, templates)
        local = self.local(x) if config.local else None
        stride = config.stride
        if self.training:
            drawn = [divmod(number, stride) for number in torch.randperm(stride**2)[: config.looks].tolist()]
            logits = torch.cat([look(*place).flatten(1, 2) for place in drawn], dim=1)
            numbers = torch.arange(length * length, device=x.device).view(length, length)
            numbers = numbers.minimum(numbers.T)  # i * L + j, with i <= j
            at = torch.cat([numbers[row::stride, column::stride].flatten() for row, column in drawn])
            return Prediction(self._mean(logits), logits, self.bins, local, at)
        whole = x.new_empty(len(x), length, length, BINS, dtype=self.prior.dtype)
        for row, column in combinations_with_replacement(range(stride), 2):
            logits = look(row, column)
            if row == column:
                logits = (logits + logits.transpose(1, 2)) / 2  # of the same pairs, but for rounding
            whole[:, row::stride, column::stride] = logits
            whole[:, column::stride, row::stride] = logits.transpose(1, 2)
        distance = self._mean(whole).masked_fill(torch.eye(length, dtype=torch.bool, device=x.device), 0)
        return Prediction(distance, whole, self.bins, local)

    def _mean(self, logits: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            return logits.softmax(dim=-1) @ self.centres

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
        if self.config.features:
            x = x + self.features(residues)
        hidden = torch.zeros_like(profile[..., 0]).masked_fill(~residues.mask, -1e4)  # padding has no weight
        for block, bias in zip(self.blocks, self._attention_bias(residues.index[0]), strict=True):
            x = block(x, bias, hidden, residues.mask)
        return self.norm(x) * present

    def _attention_bias(self, position: Tensor) -> Iterator[Tensor]:
        """What is learned for relative positions, of each block: [heads, L, L], from int64 [L] of all chains."""
        relative = (position - position[:, None]).clamp(-REACH, REACH) + REACH
        if not self.blocks:
            return iter(())
        # looked up at once, because the gradient of each look-up takes as long as that of all
        table = torch.arange(2 * REACH + 1, device=position.device)
        weights = torch.cat([block.attention.position(table) for block in self.blocks], dim=1)  # type: ignore[operator, union-attr]
        found = weights.index_select(0, relative.flatten()).T.contiguous().unflatten(1, relative.shape)
        return iter(found.chunk(len(self.blocks)))

    def _templates(self, residues: Residues, dtype: torch.dtype) -> TemplatePairs:
        """What relatives say of the pairs of some chains: features [C, L, L, F], mean distances, and which chains."""
        found = self.memory(residues)
        features, mean = found.pairs()
        return features.to(dtype), mean, found.chains

    def _pair_track(self, x: Tensor, residues: Residues, templates: TemplatePairs | None) -> Tensor:
        """Symmetric features of pairs of rows, each of `stride` residues: [B, P, P, head]."""
        stride, position = self.config.stride, residues.index[0]
        # one row more than fit, so that a chain ends in empty rows whatever it is padded to
        rows = -(-x.shape[1] // stride) + 1
        missing = rows * stride - x.shape[1]
        present = F.pad(residues.mask, (0, missing)).unflatten(1, (rows, stride))  # [B, P, stride]
        coarse = F.pad(x, (0, 0, 0, missing)).unflatten(1, (rows, stride)).sum(dim=2)
        coarse = coarse / present.sum(dim=2).clamp(min=1)[..., None]
        product, difference = self.product(coarse), self.difference(coarse)
        pairs = (difference[:, :, None] - difference[:, None]).abs()
        pairs = pairs.addcmul_(product[:, :, None], product[:, None])
        firsts = torch.cat([position[::stride], position[-1:] + stride])  # of each row
        pairs += self.apart(separation_class((firsts[:, None] - firsts).abs()))
        lengths = residues.mask.sum(dim=1).to(residues.profile.dtype)  # [B]
        pairs += self.length((lengths.log() - 5)[:, None, None, None])
        if templates is not None:
            features, _, chains = templates
            pooled = F.avg_pool2d(F.pad(features.permute(0, 3, 1, 2), (0, missing, 0, missing)), stride)
            pairs = _added(pairs, chains, self.of_templates, pooled.permute(0, 2, 3, 1))
        both = pair_mask(present.any(dim=2))[..., None].to(pairs.dtype)
        counted = present.any(dim=2).sum(dim=1).to(pairs.dtype)[:, None, None, None]
        pairs = pairs * both
        for block in self.pair_blocks:
            pairs = block(pairs, both, counted)
        pairs = self.narrow(self.pair_norm(pairs)) * both
        return pairs + pairs.transpose(1, 2)

    def _look(
        self, pairs: Tensor, product: Tensor, position: Tensor, templates: TemplatePairs | None, row: int, column: int
    ) -> Tensor:
        """Logits of the residue pairs at one place in each pair of rows: [B, I, J, K].

        The residues are i = row, row + stride ... and j = column, column + stride ...
        """
        stride = self.config.stride
        i, j = position[row::stride, None], position[column::stride]
        full = between(between(pairs, 1, row, stride, len(i)), 2, column, stride, len(j))
        full = full + product[:, row::stride, None] * product[:, None, column::stride]
        apart = (i - j).abs()
        full = full + self.full_apart(separation_class(apart))  # [B, I, J, head]
        if templates is not None:
            features, mean = (each[:, row::stride, column::stride] for each in templates[:2])
            full = _added(full, templates[2], self.full_of_templates, features)
        prior = self.prior[apart.clamp(max=LONGEST - 1)]  # [I, J, K]
        logits = prior + self.logits(F.gelu(self.hidden(F.gelu(full)))).float()
        if templates is not None:
            of_templates = self.template_logits(features, mean, apart, self.centres)
            logits = logits.index_add(0, templates[2], of_templates)
        return logits


def _added(whole: Tensor, chains: Tensor, layer: nn.Linear, features: Tensor) -> Tensor:
    """A layer's output added to the chains of a batch, from the features of some of them; the others' are zero."""
    whole = whole + layer.bias
    return whole.index_add(0, chains, (layer(features) - layer.bias).to(whole.dtype))


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
    lr=2e-3,
    optimizer="muon",
    loss="distogram-mse",
    weight_decay=0.01,
    schedule="cosine",
    warmup=0.05,
    max_grad_norm=1.0,
    ema=0.995,
    crop=256,
    random_crop=True,
    short_crops=0.7,
    padded_lengths=(64, 128, 192, 256),
    note="Short crops teach folds faster, long ones what lies far apart; not tuned.",
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
