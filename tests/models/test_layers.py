"""Keras' conventions, by hand and against autograd."""

import math

import pytest
import torch
from torch.nn import functional as F

from protcli.models.layers import (
    ChannelsLastReshape,
    Dense,
    DotProductSelfAttention,
    KerasConv2d,
    KerasConvTranspose2d,
    PairwiseDistance,
    PointwiseConv2d,
    batch_norm,
    pad_residues,
)
from protcli.proteins.residues import GAP_INDEX


def row_kernel(layer, row):
    """Put 1, 10, 100 into one row of a single-channel 3 x 3 kernel, zeros elsewhere."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, row] = torch.tensor([1.0, 10.0, 100.0])
    return layer


def test_same_padding_with_stride_2_puts_the_odd_zero_after():
    conv = row_kernel(KerasConv2d(1, 1, 3, stride=2), row=1)
    assert conv(torch.tensor([[[[1.0, 2, 3, 4]]]])).tolist() == [[[[321.0, 43.0]]]]  # windows 1 2 3 | 3 4 0
    assert conv(torch.tensor([[[[1.0, 2, 3]]]])).tolist() == [[[[210.0, 32.0]]]]  # windows 0 1 2 | 2 3 0
    x = torch.zeros(1, 1, 256, 21)
    assert KerasConv2d(1, 1, 3, stride=2)(x).shape[2:] == (128, 11)
    assert KerasConv2d(1, 1, 3, stride=2, padding="valid")(x).shape[2:] == (127, 10)
    assert KerasConv2d(1, 1, 3)(x).shape[2:] == (256, 21)


def test_transposed_stride_2_drops_the_last_row_and_column():
    conv = row_kernel(KerasConvTranspose2d(1, 1, 3, stride=2), row=0)
    out = conv(torch.tensor([[[[1.0, 2.0]]]]))  # in full 1 10 102 20 200
    assert out.tolist() == [[[[1.0, 10.0, 102.0, 20.0], [0.0] * 4]]]
    # stride 8 leaves gaps that hold the bias
    conv = row_kernel(KerasConvTranspose2d(1, 1, 3, stride=8), row=0)
    with torch.no_grad():
        conv.bias.fill_(0.5)
    out = conv(torch.tensor([[[[1.0, 2.0]]]]))
    assert out.shape[2:] == (8, 16)
    gap = [0.5] * 5
    assert out[0, 0, 0].tolist() == [1.5, 10.5, 100.5, *gap, 2.5, 20.5, 200.5, *gap]
    assert (out[0, 0, 1:] == 0.5).all()


def gradients(output, *inputs):
    """Of the sum of squares, which meets every value with another weight."""
    return torch.autograd.grad(output.square().sum(), inputs)


@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_convolution_is_a_convolution_and_keeps_its_layout(bias):
    torch.manual_seed(0)
    layer = PointwiseConv2d(4, 6, 1, bias=bias).double().to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 3, 5, dtype=torch.double).to(memory_format=torch.channels_last).requires_grad_()
    output, expected = layer(x), F.conv2d(x, layer.weight, layer.bias)
    of = (x, *layer.parameters())
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(gradients(output, *of), gradients(expected, *of))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (3, 8), (16, 8), (4, 2), (5, 3)])
def test_transposed_is_the_adjoint_of_the_same_convolution(kernel, stride):
    """Keras defines it so: the gradient of the 'same' convolution with respect to its input."""
    torch.manual_seed(0)
    down = KerasConv2d(2, 3, kernel, stride).double()
    up = KerasConvTranspose2d(3, 2, kernel, stride).double()
    with torch.no_grad():
        up.weight.copy_(down.weight)
    large = torch.randn(1, 2, 5 * stride, 4 * stride, dtype=torch.float64, requires_grad=True)
    small = torch.randn(1, 3, 5, 4, dtype=torch.float64)
    (expected,) = torch.autograd.grad(down(large), large, small)
    torch.testing.assert_close(up(small), expected)


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [
        (KerasConv2d(32, 64, 3), 9 * 32, 9 * 64),
        (KerasConvTranspose2d(64, 32, 3, stride=2), 9 * 64, 9 * 32),
        (Dense(159, 48), 159, 48),
    ],
)
def test_initial_state_is_glorot_uniform(layer, fan_in, fan_out):
    limit = math.sqrt(6 / (fan_in + fan_out))
    assert 0.98 * limit < layer.weight.abs().max() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)
    assert (layer.bias == 0).all()


def test_batch_norm_and_reshape_are_keras():
    norm = batch_norm(1)
    assert norm.eps == 1e-3
    norm(torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1))
    assert norm.running_mean.item() == pytest.approx(0.01)  # 0.99 * 0 + 0.01 * 1
    x = torch.arange(8.0).reshape(1, 2, 2, 2)  # channel 0 holds 0 1 2 3, channel 1 holds 4 5 6 7
    assert ChannelsLastReshape(8)(x).tolist() == [[0, 4, 1, 5, 2, 6, 3, 7]]


def test_attention_has_neither_scale_nor_mask():
    x = torch.tensor([[[math.log(2), 0.0], [0.0, 0.0]]])
    first = 2 ** math.log(2) / (2 ** math.log(2) + 1)  # softmax of (log 2)^2 and 0
    expected = torch.tensor([[[first * math.log(2), 0.0], [math.log(2) / 2, 0.0]]])
    torch.testing.assert_close(DotProductSelfAttention()(x), expected)


def test_distance_of_points_is_not_squared_and_where_they_coincide_its_gradient_is_zero():
    distance = PairwiseDistance()(torch.tensor([[[0.0, 0, 0], [3, 4, 0], [3, 4, 12]]]))
    torch.testing.assert_close(distance, torch.tensor([[[0.0, 5, 13], [5, 0, 12], [13, 12, 0]]]))
    points = torch.tensor([[[1.0, 0, 0], [1, 0, 0], [1, 3, 0]]], requires_grad=True)
    PairwiseDistance()(points).sum().backward()
    assert points.grad.tolist() == [[[0, -2, 0], [0, -2, 0], [0, 4, 0]]]
    alike = torch.ones(1, 4, 3, requires_grad=True)
    PairwiseDistance()(alike).sum().backward()
    assert (alike.grad == 0).all()


def test_padding_is_what_collate_gives(residues):
    short = residues([5, 3], 5)
    padded = pad_residues(short, 8)
    assert padded.sequence[:, 5:].eq(GAP_INDEX).all()
    for zero in (padded.profile, padded.mask, padded.one_hot()):
        assert zero[:, 5:].eq(0).all()
    assert padded.sequence[:, :5].equal(short.sequence)
    with pytest.raises(ValueError, match="takes 4 residues but got 5: crop to 4 or fewer"):
        pad_residues(short, 4)
