"""Weights, gradients and optimiser states of which each process holds a part (fully sharded data parallelism)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from protcli.models.spec import Prediction


def shard(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Leave each process its part of every parameter of a network, in place; a scalar, which has none, stays whole.

    Its parameters are put together for a forward and backward pass, as a network is small beside its maps.
    """
    _let_torch_see_predictions()
    network.to(memory_format=torch.contiguous_format)  # the only layout that can be divided
    scalars = {each for each in network.parameters() if each.dim() == 0}
    fully_shard(network, mesh=mesh["data_parallel"], ignored_params=scalars)
    return network


@cache
def _let_torch_see_predictions() -> None:
    """Sharding prepares a backward pass at the tensors of a module's output, and looks for them in known classes."""
    torch.export.register_dataclass(Prediction)


def is_sharded(network: nn.Module) -> bool:
    """Whether processes share the parameters of a network."""
    return isinstance(network, FSDPModule)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its parts; all processes take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(network: nn.Module) -> dict[str, Tensor]:
    """The complete weights and buffers of a network; all processes take part."""
    return {name: whole(each) for name, each in network.state_dict().items()}


def divided_as(own: Tensor, tensor: Tensor) -> Tensor:
    """This process's part of a complete tensor, if `own` is one of parts; else the tensor."""
    return distribute_tensor(tensor, own.device_mesh, own.placements) if isinstance(own, DTensor) else tensor


def divided_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Complete weights, as the network's own are divided."""
    own = network.state_dict()
    return {name: divided_as(own[name], each) if name in own else each for name, each in weights.items()}


def undivided_gradients(network: nn.Module) -> Iterator[Tensor]:
    """Gradients of a sharded network that nothing has averaged over the processes."""
    if is_sharded(network):
        yield from (each.grad for each in network.parameters() if each.grad is not None and each.dim() == 0)


@contextmanager
def put_together(network: nn.Module) -> Iterator[None]:
    """Let every process have all parameters in a block, where each predicts on its own."""
    if not isinstance(network, FSDPModule):
        yield
        return
    network.unshard()
    try:
        yield
    finally:
        network.reshard()
