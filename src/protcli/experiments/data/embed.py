"""Give the chains of a store the embeddings of a protein language model as features."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import torch

from protcli.errors import ProtcliError, truncate
from protcli.experiments.data.rewrite import rewrite
from protcli.experiments.pages import Progress
from protcli.proteins.formats.features import check_features
from protcli.proteins.protein import Protein
from protcli.training.engine import find_device


def embed(
    path: str | Path, model: str, out: str | Path, *, batch: int = 8, device: str = "auto"
) -> Generator[Progress]:
    """Write a new store in which all chains of a store have a model's last hidden layer, yielding progress.

    Args:
        path, out: see `rewrite`.
        model: its name on the Hugging Face Hub, or a folder: as ESM-2, with a token for each residue, in safetensors.
        batch: chains computed together.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: there is no transformers; the model cannot be had, or has other tokens; as `rewrite` does.
    """
    if find_spec("transformers") is None:
        raise ProtcliError("embeddings need transformers: `pip install 'protcli[esm]'`")
    from transformers import AutoModel, AutoTokenizer

    chosen = find_device(device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModel.from_pretrained(model, use_safetensors=True).to(chosen).eval()
    except Exception as error:  # of the network, the folder or the files
        raise ProtcliError(f"{model} cannot be loaded ({truncate(error, 200)}): see docs/embeddings.md") from error

    @torch.inference_mode()
    def change(proteins: Iterable[Protein]) -> Iterator[Protein]:
        waiting = iter(proteins)
        while chains := list(islice(waiting, batch)):
            tokens = tokenizer(
                [each.sequence for each in chains], padding=True, return_tensors="pt", return_special_tokens_mask=True
            )
            residues = ~tokens.pop("special_tokens_mask").bool()
            hidden = network(**tokens.to(chosen)).last_hidden_state.float().cpu()
            for chain, own, rows in zip(chains, residues, hidden, strict=True):
                try:
                    yield replace(chain, features=check_features(rows[own], len(chain)))
                except ValueError as error:
                    raise ProtcliError(f"{model}, {truncate(chain.id)}: {error}") from None

    yield from rewrite(path, out, change, f"the last hidden layer of {truncate(model, 200)}")
