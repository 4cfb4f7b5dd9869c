"""Layers of the two studies, with Keras' conventions: padding, initialisation, channels-last reshapes."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protcli.proteins.batches import Residues
from protcli.proteins.maps import distances
from protcli.proteins.residues import GAP_INDEX


def _glorot(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """Keras' initialisation: Glorot uniform weights (Glorot and Bengio 2010), zero bias."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis in Keras' 'same' padding (output ceil(size / stride)); an odd one goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class KerasConv2d(nn.Conv2d):
    """Convolution [B, C, H, W] -> [B, C', H', W'] with Keras' padding: 'same' (H' = ceil(H / stride)) or 'valid'."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        padding: Literal["same", "valid"] = "same",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding=padding if stride == 1 else "valid")
        self.pads_itself = padding == "same" and stride > 1  # torch has no strided 'same'

    def reset_parameters(self) -> None:
        _glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        if self.pads_itself:
            top, bottom = _same_padding(x.shape[2], self.kernel_size[0], self.stride[0])
            left, right = _same_padding(x.shape[3], self.kernel_size[1], self.stride[1])
            x = F.pad(x, (left, right, top, bottom))
        return super().forward(x)


class PointwiseConv2d(nn.Conv2d):
    """1x1 convolution [B, C, H, W] -> [B, C', H, W] of maps that are channels-last in memory.

    On a CPU it is a matrix product: oneDNN's convolution copies its weights to a layout of its own, and their gradient
    back, which for small maps takes longer than the product.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return super().forward(x)
        return F.linear(x.movedim(1, 3), self.weight.flatten(1), self.bias).movedim(3, 1)


def numbered(stages: Iterable[dict[str, nn.Module]]) -> OrderedDict[str, nn.Module]:
    """The layers of stages by kind and number of their stage: conv1, relu1, conv2, relu2, ..."""
    return OrderedDict((f"{kind}{n}", layer) for n, stage in enumerate(stages, 1) for kind, layer in stage.items())


def convolutions(channels: int, widths: Sequence[int], kernels: Sequence[int] = ()) -> nn.Sequential:
    """Convolutions conv1, conv2, ... of these widths, each with a ReLU after it; kernels are 3x3 unless given."""
    sizes = zip(pairwise((channels, *widths)), kernels or [3] * len(widths), strict=True)
    return nn.Sequential(
        numbered({"conv": KerasConv2d(*before_after, kernel), "relu": nn.ReLU()} for before_after, kernel in sizes)
    )


class KerasConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution [B, C, H, W] -> [B, C', stride H, stride W] with Keras' 'same' padding.

    It is the adjoint of the 'same' convolution: (kernel - stride) rows of the full output (H - 1) stride + kernel are
    dropped, an odd one at the end; if the kernel is shorter than the stride, the last rows hold only the bias.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        surplus = max(kernel - stride, 0)
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=surplus // 2,
            output_padding=max(stride - kernel, 0),
        )
        self.surplus_is_odd = surplus % 2 == 1

    def reset_parameters(self) -> None:
        _glorot(self)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        full = super().forward(x, output_size)
        return full[..., :-1, :-1] if self.surplus_is_odd else full


class Dense(nn.Linear):
    """Affine map of the last axis with Keras' initialisation."""

    def reset_parameters(self) -> None:
        _glorot(self)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with Keras' constants: epsilon 1e-3, momentum 0.99 (0.01 in torch's convention)."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class BatchNormOfCopies(nn.BatchNorm2d):
    """Batch norm of maps that each stand for `copies` equal ones, which are not computed.

    Copies change neither mean nor variance, but the running variance is the unbiased one, n / (n - 1) times the
    variance of n values, and n is `copies` times as many. `copies` is set before the forward pass.
    """

    copies = 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.copies == 1:
            return super().forward(x)
        assert self.running_var is not None  # it is unless statistics are switched off
        assert self.momentum is not None
        before = self.running_var.clone()
        output = super().forward(x)
        n = x.numel() // x.shape[1]
        correction = self.copies * (n - 1) / (self.copies * n - 1)
        before *= 1 - self.momentum
        # `data`, because autograd keeps the running variance, though in training it does not use it
        self.running_var.data.sub_(before).mul_(correction).add_(before)
        return output


class ChannelsLastReshape(nn.Module):
    """[B, C, H, W] -> [B, *shape] in the order of Keras tensors, [B, H, W, C]."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], *self.shape)

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


class DotProductSelfAttention(nn.Module):
    """softmax(x x^T) x over rows: [B, L, F] -> [B, L, F], without weights, scaling or a mask."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.mT, dim=-1) @ x


class PairwiseDistance(nn.Module):
    """Euclidean distances of points: [B, L, 3] -> [B, L, L], always in float32."""

    def forward(self, points: Tensor) -> Tensor:
        return distances(points.float())


class FeatureInput(nn.Module):
    """Numbers from elsewhere for each residue, normalised and mapped to C channels: [B, L, C], zero in padding."""

    def __init__(self, features: int, channels: int) -> None:
        """Raises ValueError if the number of features is not known yet, but only that there are some."""
        super().__init__()
        if features is True:
            raise ValueError("features=true takes as many as the data have: without data, give their number")
        self.norm, self.project = nn.LayerNorm(features), nn.Linear(features, channels)

    def forward(self, residues: Residues) -> Tensor:
        return self.project(self.norm(residues.features)) * residues.mask[..., None]


def pad_residues(residues: Residues, length: int) -> Residues:
    """Pad to `length` residues as `proteins.batches` does: gap, zero profile, mask False, continuing index.

    Raises:
        ValueError: there are more than `length` residues.
    """
    missing = length - residues.sequence.shape[1]
    if missing < 0:
        raise ValueError(
            f"this network takes {length} residues but got {residues.sequence.shape[1]}: crop to {length} or fewer"
        )
    if missing == 0:
        return residues
    further = torch.arange(1, missing + 1, device=residues.index.device)
    return Residues(
        F.pad(residues.sequence, (0, missing), value=GAP_INDEX),
        F.pad(residues.profile, (0, 0, 0, missing)),
        F.pad(residues.mask, (0, missing), value=False),
        torch.cat([residues.index, residues.index[:, -1:] + further], dim=1),
        None if residues.features is None else F.pad(residues.features, (0, 0, 0, missing)),
    )
