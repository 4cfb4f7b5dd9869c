"""Study B: a ResNet50 over a map of residue pairs, and a tail that upsamples its features to full resolution.

To add an input, add a class to INPUTS; to add a tail, add a function to TAILS.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from protcli.models.layers import (
    BatchNormOfCopies,
    KerasConv2d,
    KerasConvTranspose2d,
    PointwiseConv2d,
    numbered,
    pad_residues,
)
from protcli.models.recipe import Recipe, share
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Residues
from protcli.proteins.maps import separation, symmetrize
from protcli.proteins.residues import ALPHABET_SIZE

STRIDE, FEATURES = 32, 2048  # of the backbone


@dataclass(frozen=True)
class PspConfig:
    """Attributes:
    inputs: pair features for the backbone, a key of INPUTS.
    tail: how 8 x 8 features become a 256 x 256 map, a key of TAILS.
    dropout: dropout on the backbone's features.
    """

    inputs: Literal["separation", "one-hot", "profile", "both"] = "separation"
    tail: Literal[
        "transposed",
        "transposed-k8",
        "transposed-k16",
        "transposed-2-2-1-1-8",
        "transposed-2-2-2-2-2",
        "nearest",
        "bilinear",
    ] = "nearest"
    dropout: float = share(0.3)


class SeparationInput(nn.Module):
    """|i - j| as raw integers, as in the study: [1, L, L, 1], the same map for every protein."""

    channels = 1

    def forward(self, residues: Residues) -> Tensor:
        length = residues.sequence.shape[1]
        return separation(length, residues.profile.device).to(residues.profile)[None, :, :, None]


class PairInput(nn.Module):
    """Features of i and of j, and |i - j|: [B, L, L, 43], or [B, L, L, 85] with both kinds of feature."""

    def __init__(self, *, one_hot: bool, profile: bool) -> None:
        super().__init__()
        self.one_hot, self.profile = one_hot, profile
        self.channels = 2 * ALPHABET_SIZE * (one_hot + profile) + 1

    def forward(self, residues: Residues) -> Tensor:
        kinds = ([residues.one_hot()] if self.one_hot else []) + ([residues.profile] if self.profile else [])
        single = torch.cat(kinds, dim=-1)  # [B, L, 21 or 42]
        batch, length, _ = single.shape
        of_i = single[:, :, None].expand(-1, -1, length, -1)
        of_j = single[:, None].expand(-1, length, -1, -1)
        apart = separation(length, single.device).to(single)[None, :, :, None].expand(batch, -1, -1, -1)
        return torch.cat([of_i, of_j, apart], dim=-1)


def transposed_tail(
    features: int, kernels: tuple[int, ...] = (3, 3, 3), strides: tuple[int, ...] = (2, 2, 8)
) -> nn.Sequential:
    """psp0's tail: transposed convolutions, one for each kernel and stride.

    A kernel shorter than its stride leaves gaps: in psp0 no feature reaches most pixels of the last map.
    """
    widths = (features, 128, 64, *[32] * (len(kernels) - 2))
    layers = numbered(
        {"up": KerasConvTranspose2d(*before_after, kernel, stride), "relu": nn.ReLU()}
        for before_after, kernel, stride in zip(pairwise(widths), kernels, strides, strict=True)
    )
    return nn.Sequential(layers | {"output": KerasConv2d(widths[-1], 1, 3)})


def upsampling_tail(features: int, mode: str, channels: tuple[int, ...], last: int = 1) -> nn.Sequential:
    """Upsamplings by 2, each with a 3x3 convolution after it, perhaps one by `last`, and the output convolution."""
    stages = [
        {"up": nn.Upsample(scale_factor=2, mode=mode), "conv": KerasConv2d(*before_after, 3), "relu": nn.ReLU()}
        for before_after in pairwise((features, *channels))
    ]
    if last > 1:
        stages.append({"up": nn.Upsample(scale_factor=last, mode=mode)})
    return nn.Sequential(numbered(stages) | {"output": KerasConv2d(channels[-1], 1, 3)})


INPUTS: dict[str, Callable[[], SeparationInput | PairInput]] = {
    "separation": SeparationInput,
    "one-hot": partial(PairInput, one_hot=True, profile=False),
    "profile": partial(PairInput, one_hot=False, profile=True),
    "both": partial(PairInput, one_hot=True, profile=True),
}
TAILS: dict[str, Callable[[int], nn.Module]] = {
    "transposed": transposed_tail,
    # the kernel varied at the same strides: 8 just covers the last stride, 16 overlaps by half
    "transposed-k8": partial(transposed_tail, kernels=(3, 3, 8)),
    "transposed-k16": partial(transposed_tail, kernels=(3, 3, 16)),
    # the strides varied at the same kernels and with equally many parameters: the first leaves psp0's gaps
    "transposed-2-2-1-1-8": partial(transposed_tail, kernels=(3,) * 5, strides=(2, 2, 1, 1, 8)),
    "transposed-2-2-2-2-2": partial(transposed_tail, kernels=(3,) * 5, strides=(2,) * 5),
    "nearest": partial(upsampling_tail, mode="nearest", channels=(128, 64), last=8),  # psp1's
    "bilinear": partial(upsampling_tail, mode="bilinear", channels=(128, 64, 32, 32, 32)),
}


def backbone(name: str, channels: int, body: str = "", first: str = "conv1", **settings: Any) -> nn.Sequential:
    """A torchvision network without its head, of random weights: [B, channels, L, L] -> [B, C, L / 32, L / 32].

    Its body is the module in it of that name, whose children are applied one after the other; its first convolution
    is replaced by one for `channels`, with torchvision's initialisation of the others.
    """
    from torchvision.models import get_model  # here, because it delays the start of every command

    network = get_model(name, weights=None, **settings).get_submodule(body)
    old = network.get_submodule(first)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None  # type: ignore[arg-type]
    )  # fmt: skip
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    network.set_submodule(first, new)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == layer.stride == (1, 1):
            layer.__class__ = PointwiseConv2d  # a new layer would draw other weights
    return nn.Sequential(OrderedDict(each for each in network.named_children() if each[0] not in ("avgpool", "fc")))


def pad_to_stride(residues: Residues) -> Residues:
    """Pad to a multiple of STRIDE, and to 2 x 2 pixels at the bottom: batch norm needs more than one a channel."""
    return pad_residues(residues, max(-(-residues.sequence.shape[1] // STRIDE), 2) * STRIDE)


class Psp(nn.Module):
    """Pair features, backbone, dropout, tail. L is padded internally to a multiple of 32 and cropped back."""

    def __init__(self, config: PspConfig) -> None:
        super().__init__()
        self.config = config
        self.pairs = INPUTS[config.inputs]()
        self.backbone = backbone("resnet50", self.pairs.channels, norm_layer=BatchNormOfCopies)
        self.dropout = nn.Dropout(config.dropout)
        self.tail = TAILS[config.tail](FEATURES)

    def forward(self, residues: Residues) -> Prediction:
        batch, length = residues.sequence.shape
        # pair features are channels-last in memory, which is fastest for convolutions on CPU and GPU
        pairs = self.pairs(pad_to_stride(residues)).permute(0, 3, 1, 2)  # [1 or B, C, L, L]
        for layer in self.backbone.modules():
            if isinstance(layer, BatchNormOfCopies):
                layer.copies = batch // len(pairs)
        features = self.backbone(pairs)  # [1 or B, 2048, L / 32, L / 32]
        # Features shared by all proteins are computed once; only dropout makes copies differ.
        if self.training and self.config.dropout > 0:
            features = features.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        raw = self.tail(self.dropout(features))[:, 0, :length, :length]  # [1 or B, L, L]
        return Prediction(symmetrize(raw.float()).expand(batch, -1, -1))


_NOTE = (
    "Study B used lr 1e-6 and batch 10 to 32. On a hundred proteins 1e-6 is too slow: after 5 epochs on the sample "
    "(seed 0) psp1 has a validation MSE of 281 Å², 4.7 times sepmean's; with 1e-3 it has 55, 0.92 times sepmean's."
)
_RECIPE = Recipe(epochs=5, batch_size=8, lr=1e-3, random_crop=True, note=_NOTE)

SPECS = tuple(
    ModelSpec(name, Psp, PspConfig(inputs, tail, dropout), _RECIPE, summary)  # type: ignore[arg-type]
    for name, inputs, tail, dropout, summary in (
        (
            "psp0", "separation", "transposed", 0.0,
            "study B: ResNet50 over |i-j|, transposed convolutions; does not see the protein",
        ),
        (
            "psp1", "separation", "nearest", 0.3,
            "study B: ResNet50 over |i-j|, nearest upsampling, dropout; does not see the protein",
        ),
        (
            "psp0-profile", "both", "transposed", 0.0,
            "psp0 over pair features: one-hot and profile of i and of j, and |i-j|",
        ),
        (
            "psp1-profile", "both", "nearest", 0.3,
            "psp1 over pair features: one-hot and profile of i and of j, and |i-j|",
        ),
    )
)  # fmt: skip
