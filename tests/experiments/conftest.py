"""A small store of made-up chains and a small model of one's own, for whole runs in seconds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protcli.proteins.protein import Protein
from protcli.proteins.store import create_store

MODEL = """
from dataclasses import dataclass

import torch
from torch import nn

from protcli.models import ModelSpec, Prediction, Recipe
from protcli.proteins.maps import separation, symmetrize


@dataclass(frozen=True)
class TinyConfig:
    scale: float = 1.0
    dropout: float = 0.1


class Tiny(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed = nn.Sequential(nn.Linear(42, 8), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(8, 1))
        self.slope = nn.Parameter(torch.tensor(0.5))

    def forward(self, residues):
        each = self.embed(torch.cat([residues.one_hot(), residues.profile], dim=-1))  # [B, L, 1]
        gaps = separation(each.shape[1], each.device).sqrt() * self.slope
        return Prediction(symmetrize(self.config.scale * (gaps * 4 + each + each.mT)))


tiny = ModelSpec("tiny", Tiny, TinyConfig(), Recipe(epochs=3, batch_size=4, lr=1e-2, crop=32, random_crop=True), "tiny")
"""


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, chain: Callable[..., Protein]) -> Path:
    """A store of 10 training, 5 validation and 4 test chains of 20 to 60 residues."""
    rng = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("stores") / "tiny"
    with create_store(folder) as writer:
        for split, count in (("training", 10), ("validation", 5), ("testing", 4)):
            with writer.split(split) as proteins:
                for index in range(count):
                    length = int(rng.integers(20, 60))
                    protein = chain(length, seed=int(rng.integers(1 << 30)), missing=(length // 2,))
                    proteins.add(replace(protein, id=f"{split}_{index}"))
    return folder


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """The model file."""
    path = tmp_path / "my_model.py"
    path.write_text(MODEL, encoding="utf-8")
    return path
