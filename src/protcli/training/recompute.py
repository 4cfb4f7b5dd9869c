"""Activation checkpointing: a block keeps its inputs alone, and is computed again in the backward pass."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


def recompute(network: nn.Module) -> None:
    """Let every block of a network, see `blocks`, be computed again; its gradients are the same, to the bit."""
    for block in blocks(network):
        norms = [each for each in block.modules() if isinstance(each, _NormBase)]
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=partial(_contexts, norms))


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The modules with parts of their own that lie in lists or sequences of modules, the outermost ones."""
    for child in network.children():
        is_block = not isinstance(child, nn.ModuleList | nn.Sequential) and any(True for _ in child.children())
        if is_block and isinstance(network, nn.ModuleList | nn.Sequential):
            yield child
        else:
            yield from blocks(child)


def _contexts(norms: Sequence[_NormBase]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a block is computed in, for the first time and again: running statistics see each batch once."""
    return nullcontext(), _leaving_statistics(norms)


@contextmanager
def _leaving_statistics(norms: Sequence[_NormBase]) -> Iterator[None]:
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.training and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
