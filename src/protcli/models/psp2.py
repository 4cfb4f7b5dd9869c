"""Study B's further work: a torchvision backbone over pair features behind a cheap stem, and a decoder with skips.

The decoder upsamples bilinearly, takes up the backbone's features on its way, and attends to all pairs where the map
is small. What it predicts is added to the mean distance at each separation.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protcli.errors import ProtcliError
from protcli.models.layers import FeatureInput
from protcli.models.psp import PairInput, backbone, pad_to_stride
from protcli.models.recipe import Recipe, at_least, count, setting, share
from protcli.models.sepmean import SepMean, SepMeanConfig
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Residues, collate
from protcli.proteins.maps import separation, symmetrize
from protcli.proteins.protein import Protein

WIDTHS = (128, 128, 64, 32)  # channels of the decoder at strides 32, 16, 8 and 4
SCALE = 10.0  # A, of the network's output
RESIDUAL = ("layer1", "layer2", "layer3", "layer4")  # stages of a ResNet


@dataclass(frozen=True)
class Backbone:
    """A torchvision network, by its name there.

    Attributes:
        weights: torchvision's name of weights for it, trained on ImageNet.
        body: the module in it whose children are applied one after the other; empty if it is the network itself.
        first: the first convolution of that body, which is replaced by one for pair features.
        stages: children whose outputs have the strides 4, 8, 16 and 32, and `channels` their channels.
    """

    weights: str
    body: str
    first: str
    stages: tuple[str, ...]
    channels: tuple[int, ...]


BACKBONES = {
    "resnet18": Backbone("IMAGENET1K_V1", "", "conv1", RESIDUAL, (64, 128, 256, 512)),
    "resnet50": Backbone("IMAGENET1K_V2", "", "conv1", RESIDUAL, (256, 512, 1024, 2048)),
    "convnext_tiny": Backbone("IMAGENET1K_V1", "features", "0.0", ("1", "3", "5", "7"), (96, 192, 384, 768)),
}


@dataclass(frozen=True)
class Psp2Config:
    """Attributes:
    backbone: a key of BACKBONES.
    weights: what the backbone starts from; `imagenet` is fetched by torchvision, all but the first convolution.
    reduced: channels that the 85 pair features are reduced to before the first convolution.
    attention: whether the decoder attends to all pairs at strides 32 and 16.
    heads: of this attention.
    dropout: on the backbone's last features.
    features: numbers from elsewhere that it reads for each residue; true for as many as the data have.
    """

    backbone: Literal["resnet18", "resnet50", "convnext_tiny"] = "resnet50"
    weights: Literal["random", "imagenet"] = "random"
    reduced: int = count(16)
    attention: bool = True
    heads: int = count(4)
    dropout: float = share(0.1)
    features: int | bool = setting(False, range=at_least(0), later=True)

    def __post_init__(self) -> None:
        if WIDTHS[0] % self.heads:
            raise ValueError(f"heads={self.heads} must divide {WIDTHS[0]}")


def fetch_weights(name: str) -> dict[str, Any]:
    """ImageNet weights of a backbone: torchvision's, from its cache or the network, with their digest checked.

    Raises:
        ProtcliError: they are not in the cache and cannot be fetched, or the file is not theirs.
    """
    from torchvision.models import get_model_weights  # here, because it delays the start of every command

    url = get_model_weights(name)[BACKBONES[name].weights].url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:  # as URLError is
            raise ProtcliError(
                f"torchvision's weights of {name} cannot be fetched ({getattr(error, 'reason', error)}): with a "
                f"network connection they come from {url}; without one, put that file into {path.parent}, or give "
                "--set weights=random"
            ) from error
    # its name holds the beginning of its digest; torchvision checks that in downloading only
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rpartition("-")[2]):
        raise ProtcliError(f"{path} is not the file that {url} is: delete it, and it is fetched again")
    return dict(torch.load(path, map_location="cpu", weights_only=True))


class PixelAttention(nn.Module):
    """Every pixel attends to all others: [B, C, H, W] -> the same, with layer norm before and a residual around."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).mT
        normed = self.norm(pixels)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)
        return x + attended.mT.unflatten(2, x.shape[2:])


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU())


class Psp2(nn.Module):
    """Pair features, stem, backbone, decoder. L is padded internally to a multiple of 32 and cropped back.

    `mean` [separations], the mean distances that it begins with, is zero until `prepare`.
    """

    reads_features = True
    mean: Tensor

    def __init__(self, config: Psp2Config) -> None:
        super().__init__()
        self.config = config
        chosen = BACKBONES[config.backbone]
        self.pairs = PairInput(one_hot=True, profile=True)
        self.stem = nn.Conv2d(self.pairs.channels, config.reduced, 1)
        self.backbone = backbone(config.backbone, config.reduced, chosen.body, chosen.first)
        self.dropout = nn.Dropout2d(config.dropout)
        self.lateral = nn.ModuleList(
            nn.Conv2d(channels, width, 1) for channels, width in zip(reversed(chosen.channels), WIDTHS, strict=True)
        )
        self.attention = nn.ModuleList(
            PixelAttention(width, config.heads) if config.attention else nn.Identity() for width in WIDTHS[:2]
        )
        self.up = nn.ModuleList(_block(before + width, width) for before, width in pairwise(WIDTHS))
        self.at_half = _block(WIDTHS[-1], WIDTHS[-1])
        self.at_full = _block(WIDTHS[-1] + config.reduced, 16)
        self.output = nn.Conv2d(16, 1, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(SepMeanConfig().separations))
        if config.features:
            self.features = FeatureInput(config.features, 2 * config.reduced)

    @torch.no_grad()
    def prepare(self, proteins: Sequence[Protein], atom: str) -> None:
        """Take the mean distances from the training proteins, and the backbone's weights if they are trained ones.

        Raises:
            ProtcliError: as `fetch_weights` does.
        """
        if self.config.weights == "imagenet":
            chosen, stored = BACKBONES[self.config.backbone], fetch_weights(self.config.backbone)
            prefix = f"{chosen.body}." if chosen.body else ""
            names = [key for key, _ in self.backbone.named_parameters() if key != f"{chosen.first}.weight"]
            names += [key for key, _ in self.backbone.named_buffers() if not key.endswith("num_batches_tracked")]
            self.backbone.load_state_dict({key: stored[f"{prefix}{key}"] for key in names}, strict=False)
        baseline = SepMean(SepMeanConfig())
        longest = len(self.mean)
        baseline.fit(collate([each], atom=atom, crop=min(len(each), longest)) for each in proteins if len(each) > 1)
        self.mean.copy_(baseline.mean)

    def forward(self, residues: Residues) -> Prediction:
        length = residues.sequence.shape[1]
        padded = pad_to_stride(residues)
        reduced = self.stem(self.pairs(padded).permute(0, 3, 1, 2))
        if self.config.features:
            of_i, of_j = self.features(padded).mT.chunk(2, dim=1)  # as if the stem read them, too
            reduced = reduced + of_i[..., None] + of_j[:, :, None]
        x, features = reduced, []
        for name, layer in self.backbone.named_children():
            x = layer(x)
            if name in BACKBONES[self.config.backbone].stages:
                features.append(x)
        features[-1] = self.dropout(features[-1])
        sides = [lateral(each) for lateral, each in zip(self.lateral, reversed(features), strict=True)]
        x = self.attention[0](sides[0])
        for stage, (up, side) in enumerate(zip(self.up, sides[1:], strict=True), start=1):
            x = up(torch.cat([_doubled(x), side], dim=1))
            if stage < len(self.attention):
                x = self.attention[stage](x)
        x = self.at_full(torch.cat([_doubled(self.at_half(_doubled(x))), reduced], dim=1))
        raw = SCALE * self.output(x)[:, 0, :length, :length].float()
        apart = separation(length, raw.device).clamp_max(len(self.mean) - 1)
        return Prediction(symmetrize(raw + self.mean[apart]))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")


_RECIPE = Recipe(
    epochs=10, batch_size=8, lr=3e-4, optimizer="adamw", weight_decay=0.01, schedule="cosine", warmup=0.05,
    max_grad_norm=1.0, random_crop=True, note="A common recipe for fine-tuning; not tuned.",
)  # fmt: skip

SPECS = (
    ModelSpec(
        "psp2", Psp2, Psp2Config(), _RECIPE,
        "study B's further work: ResNet50 over reduced pair features, decoder with skips and attention",
    ),
    ModelSpec(
        "psp2-imagenet", Psp2, Psp2Config(weights="imagenet"), _RECIPE,
        "psp2 that begins with torchvision's ImageNet weights",
    ),
    ModelSpec(
        "psp2-convnext", Psp2, Psp2Config(backbone="convnext_tiny"), _RECIPE,
        "psp2 with ConvNeXt-Tiny as its backbone",
    ),
)  # fmt: skip
