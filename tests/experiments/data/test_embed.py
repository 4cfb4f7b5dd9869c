"""Embeddings of a tiny language model whose weights are random."""

from pathlib import Path

import numpy as np
import pytest
import torch

from protcli.errors import ProtcliError
from protcli.experiments.data import embed as embedding
from protcli.experiments.data.embed import embed
from protcli.proteins.store import open_store


def test_without_transformers(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(ProtcliError, match=r"need transformers: `pip install 'protcli\[esm\]'`"):
        list(embed(tiny_data, "esm", "out"))


def test_every_residue_has_the_last_hidden_layer(tiny_data: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"))
    torch.manual_seed(0)
    config = transformers.EsmConfig(
        vocab_size=len(words), hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        pad_token_id=1, mask_token_id=len(words) - 1, position_embedding_type="rotary", max_position_embeddings=1026,
    )  # fmt: skip
    model = transformers.EsmModel(config).eval()
    model.save_pretrained(tmp_path / "esm")
    tokenizer.save_pretrained(tmp_path / "esm")
    list(embed(tiny_data, str(tmp_path / "esm"), tmp_path / "out", batch=3, device="cpu"))
    split = open_store(tmp_path / "out").split("validation")
    assert split.features == 12
    codes = [[0, *map(words.index, split[0].sequence), 2]]
    with torch.inference_mode():
        expected = model(torch.tensor(codes)).last_hidden_state[0, 1:-1]
    np.testing.assert_allclose(split[0].features, expected.numpy(), atol=2e-3)
    with pytest.raises(ProtcliError, match="none cannot be loaded"):
        list(embed(tiny_data, str(tmp_path / "none"), tmp_path / "other"))
