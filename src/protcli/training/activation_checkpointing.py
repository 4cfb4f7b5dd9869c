"""Activation checkpointing: a block keeps its inputs alone, and is computed again in the backward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(network: nn.Module) -> None:
    """Let every block of a network, see `blocks`, be computed again; its gradients are the same, to the bit."""
    for block in blocks(network):
        norms = [module for module in block.modules() if getattr(module, "track_running_stats", False)]
        contexts = partial(_contexts, norms)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The modules with parts of their own that lie in lists or sequences of modules, the outermost ones."""
    is_list = isinstance(network, nn.ModuleList | nn.Sequential)
    for child in network.children():
        if is_list and not isinstance(child, nn.ModuleList | nn.Sequential) and any(True for _ in child.children()):
            yield child
        else:
            yield from blocks(child)


def _contexts(norms: Sequence[Any]) -> tuple[Any, Any]:
    """What a block is computed in, for the first time and again: running statistics see each batch once."""
    return nullcontext(), _without_statistics(norms)


@contextmanager
def _without_statistics(norms: Sequence[Any]) -> Iterator[None]:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.training:
                norm.num_batches_tracked.sub_(1)
