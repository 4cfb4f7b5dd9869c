"""The summary of a network: layers with output shapes, parameters, cost."""

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode

from protcli.models.external import as_user_error
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Residues
from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX


class LayerRow(NamedTuple):
    """One layer.

    Attributes:
        name: dotted path in the network.
        kind: its class.
        shape: output shape without the batch, such as `8 x 8 x 2048`; a dash if it was not called.
        parameters: trained values in it and below it that no earlier row counts.
    """

    name: str
    kind: str
    shape: str
    parameters: int


@dataclass(frozen=True)
class ModelSummary:
    """A network at one input length.

    Attributes:
        name: model name.
        length: length of the one protein sent through it, in residues.
        layers: in order of their first call.
        parameters: trained values; the sum over the rows.
        buffers: floating-point values that are stored but not trained (running statistics, fitted tables).
        gmac: billions of multiply-adds of one forward pass, in convolutions and matrix products.
        bins: number of distogram bins predicted; 0 if it predicts only distances.
    """

    name: str
    length: int
    layers: tuple[LayerRow, ...]
    parameters: int
    buffers: int
    gmac: float
    bins: int

    def totals(self) -> str:
        """One line: trained parameters, buffer values, GMAC."""
        return (
            f"{self.parameters:,} trained parameters, {self.buffers:,} buffer values, "
            f"{self.gmac:.3g} GMAC for one protein of {self.length} residues"
        )

    def to_text(self) -> str:
        """A Markdown table of the layers below a line of totals."""
        head = f"**{self.name}**: {self.totals()}\n\n| layer | kind | output, without the batch | parameters |\n"
        rows = (f"| {name} | {kind} | {shape} | {count:,} |\n" for name, kind, shape, count in self.layers)
        return head + "|---|---|---|---:|\n" + "".join(rows)


def summarize(spec: ModelSpec, length: int = 256, depth: int = 2) -> ModelSummary:
    """Send one protein of `length` residues through a new network and record each layer's output shape.

    The prediction is checked too, and a user's model is also checked with two proteins. Nested layers are shown down
    to `depth`; deeper ones count towards the layer that contains them. The state of torch's random numbers does not
    change.

    Raises:
        ValueError: the network rejects that length, has nothing to train, or makes an invalid prediction.
        ProtcliError: a user's network raises an error; the message has its file and line.
    """
    shapes: dict[str, str] = {}  # in order of first calls

    def note(name: str, module: nn.Module, inputs: object, output: object) -> None:
        shapes.setdefault(name, _shape(output))

    with torch.random.fork_rng(devices=[]), torch.no_grad(), as_user_error(spec):
        model = spec.build().eval()
        if any(map(is_lazy, model.parameters())):
            raise ValueError("its lazy layers have no weights before their first input: give their sizes")
        trained = [p for p in model.parameters() if p.requires_grad]
        if not spec.is_fitted and not trained:
            raise ValueError("it has nothing to train: add parameters or a fit method")
        hooks = [module.register_forward_hook(partial(note, name)) for name, module in model.named_modules()]
        with FlopCounterMode(display=False) as counter:
            predictions = [model(_proteins(spec.features, length))]
        for hook in hooks:
            hook.remove()
        if spec.source:
            predictions.append(model(_proteins(spec.features, length, (length + 1) // 2)))
    for batch, prediction in enumerate(predictions, start=1):
        if not isinstance(prediction, Prediction):
            raise ValueError(f"its forward must return a Prediction, not {type(prediction).__name__}")
        prediction.check(batch, length, fitted=not spec.is_fitted)
    return ModelSummary(
        name=spec.name,
        length=length,
        layers=tuple(_layers(model, shapes, depth)),
        parameters=sum(p.numel() for p in trained),
        buffers=sum(b.numel() for b in model.buffers() if b.is_floating_point()),
        gmac=counter.get_total_flops() / 2e9,
        bins=0 if predictions[0].logits is None else predictions[0].logits.shape[-1],
    )


def parameter_count(spec: ModelSpec) -> int:
    """Number of trained parameters, counted on the meta device if the network can be built there.

    Raises:
        ProtcliError: a user's network raises an error; the message has its file and line.
    """
    with torch.random.fork_rng(devices=[]), as_user_error(spec):
        try:
            with torch.device("meta"):
                model = spec.build()
        except Exception:  # its initialisation reads values
            model = spec.build()
        return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _proteins(features: int, *lengths: int) -> Residues:
    """Made-up chains, longest first, with the one-hot sequence as profile, and features that are 0."""
    index = torch.arange(lengths[0]).expand(len(lengths), -1)
    mask = index < torch.tensor(lengths)[:, None]
    sequence = (index % 20).masked_fill(~mask, GAP_INDEX)
    profile, zeros = (torch.zeros(*mask.shape, count) for count in (ALPHABET_SIZE, features))
    residues = Residues(sequence, profile, mask, index, zeros if features else None)
    return replace(residues, profile=residues.one_hot())


def _layers(model: nn.Module, shapes: dict[str, str], depth: int) -> Iterator[LayerRow]:
    """The rows, in the order of `shapes`; a layer shown by its parts has one only for weights of its own."""
    counted: set[Tensor] = set()
    modules = dict(model.named_modules())
    for name in dict.fromkeys([*shapes, *modules]):
        module, level = modules[name], len(name.split(".")) if name else 0
        if level > depth:
            continue
        is_whole = level == depth or not any(True for _ in module.children())
        weights = {p for p in module.parameters(recurse=is_whole) if p.requires_grad} - counted
        counted |= weights
        if weights or is_whole:
            parameters = sum(p.numel() for p in weights)
            yield LayerRow(name or "(itself)", type(module).__name__, shapes.get(name, "-"), parameters)


def _shape(output: object) -> str:
    """The shape without the batch of a tensor, or of the first tensor in a layer's output; a dash if there is none."""
    if isinstance(output, Tensor):
        return " x ".join(map(str, output.shape[1:])) or "-"
    parts = tuple(vars(output).values()) if is_dataclass(output) else output
    return _shape(parts[0]) if isinstance(parts, tuple | list) and parts else "-"
