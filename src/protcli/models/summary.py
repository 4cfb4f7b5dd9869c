"""The summary of a network: layers with output shapes, parameters, cost."""

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode

from protcli.models.external import as_user_error
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Residues
from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: dotted path in the network.
        kind: its class.
        shape: output shape without the batch; None if it was not called.
        parameters: trained values in it and below it that no earlier row counts.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
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
        rows = [f"| {row.name} | {row.kind} | {shape_text(row.shape)} | {row.parameters:,} |" for row in self.layers]
        return "\n".join(
            [
                f"**{self.name}**: {self.totals()}",
                "",
                "| layer | kind | output, without the batch | parameters |",
                "|---|---|---|---:|",
                *rows,
                "",
            ]
        )


def shape_text(shape: tuple[int, ...] | None) -> str:
    """A shape as `8 x 8 x 2048`, or a dash if there is none."""
    return " x ".join(map(str, shape)) if shape else "-"


def summarize(spec: ModelSpec, length: int = 256, depth: int = 2) -> ModelSummary:
    """Send one protein of `length` residues through a new network and record each layer's output shape.

    The prediction is checked too, and a user's model is also checked with two proteins. Nested layers are shown down
    to `depth`; deeper ones count towards the layer that contains them. The state of torch's random numbers does not
    change.

    Raises:
        ValueError: the network rejects that length, has nothing to train, or makes an invalid prediction.
        ProtcliError: a user's network raises an error; the message has its file and line.
    """
    with torch.random.fork_rng(devices=[]), as_user_error(spec):
        model = spec.build().eval()
    if any(map(is_lazy, model.parameters())):
        raise ValueError("its lazy layers have no weights before their first input: give their sizes")
    if not spec.is_fitted and not any(p.requires_grad for p in model.parameters()):
        raise ValueError("it has nothing to train: add parameters or a fit method")
    rows = list(_rows(model, depth))
    shapes: dict[str, tuple[int, ...] | None] = {}  # in order of first calls

    def note(name: str, module: nn.Module, inputs: object, output: object) -> None:
        shapes.setdefault(name, _shape(output))

    hooks = [module.register_forward_hook(partial(note, name)) for name, module, _ in rows]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), as_user_error(spec):
        with FlopCounterMode(display=False) as counter:
            prediction = model(_proteins(length))
        for hook in hooks:
            hook.remove()
        predictions = [prediction, model(_proteins(length, (length + 1) // 2))] if spec.source else [prediction]
    for batch, prediction in enumerate(predictions, start=1):
        if not isinstance(prediction, Prediction):
            raise ValueError(f"its forward must return a Prediction, not {type(prediction).__name__}")
        prediction.check(batch, length, fitted=not spec.is_fitted)
    call_order = {name: position for position, name in enumerate(shapes)}
    counted: set[Tensor] = set()
    layers = []
    for name, module, is_whole in sorted(rows, key=lambda row: call_order.get(row[0], len(call_order))):
        own = {p for p in module.parameters(recurse=is_whole) if p.requires_grad} - counted
        counted |= own
        if own or is_whole:  # a layer shown by its parts has a row only for its own weights
            parameters = sum(p.numel() for p in own)
            layers.append(LayerRow(name or "(itself)", type(module).__name__, shapes.get(name), parameters))
    return ModelSummary(
        name=spec.name,
        length=length,
        layers=tuple(layers),
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
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


def _proteins(*lengths: int) -> Residues:
    """Made-up chains, longest first, with the one-hot sequence as profile."""
    mask = torch.arange(lengths[0]) < torch.tensor(lengths)[:, None]
    sequence = (torch.arange(lengths[0]) % 20).expand(mask.shape).masked_fill(~mask, GAP_INDEX)
    index = torch.arange(lengths[0]).expand(mask.shape)
    residues = Residues(sequence, torch.zeros(*mask.shape, ALPHABET_SIZE), mask, index)
    return replace(residues, profile=residues.one_hot())


def _rows(module: nn.Module, depth: int, name: str = "") -> Iterator[tuple[str, nn.Module, bool]]:
    """Name, module, and whether its row covers the whole module: at `depth`, or if it has no parts."""
    parts = dict(module.named_children()) if depth > 0 else {}
    yield name, module, not parts
    for part, child in parts.items():
        yield from _rows(child, depth - 1, f"{name}.{part}" if name else part)


def _shape(output: object) -> tuple[int, ...] | None:
    """The shape without the batch of a tensor, or of the first tensor in a layer's output."""
    if isinstance(output, Tensor):
        return tuple(output.shape[1:])
    if isinstance(output, tuple | list) and output:
        return _shape(output[0])
    if is_dataclass(output):
        return _shape(tuple(vars(output).values()))
    return None
