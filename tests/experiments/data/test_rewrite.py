"""A store written anew: all that is not changed stays."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.experiments.data.rewrite import rewrite
from protcli.proteins.protein import Protein
from protcli.proteins.store import open_store


def test_all_stays_but_what_is_changed(tiny_data: Path, tmp_path: Path) -> None:
    def change(proteins: Iterable[Protein]) -> Iterator[Protein]:
        for protein in proteins:
            yield replace(protein, profile=np.zeros_like(protein.profile))

    before = open_store(tiny_data)
    events = list(rewrite(tiny_data, tmp_path / "same", lambda proteins: proteins, "nothing"))
    list(rewrite(tiny_data, tmp_path / "other", change, "profiles"))
    assert [(each.label, each.done) for each in events if each.done == each.total] == [
        (name, before.split_info(name)["records"]) for name in before.splits
    ]
    same, other = open_store(tmp_path / "same"), open_store(tmp_path / "other")
    assert same.splits == other.splits == before.splits
    for name in before.splits:
        own, info = before.split_info(name), same.split_info(name)
        notes = [*own.get("notes", ()), f"of {before.name}, {own['digest'][:12]}: nothing"]
        assert info == own | {"notes": notes, "overlaps": own.get("overlaps", {})}
        assert other.split(name).digest != own["digest"]
        assert other.split(name).ids == before.split(name).ids
        assert other.split(name).families.tolist() == before.split(name).families.tolist()
    with pytest.raises(ProtcliError, match="exists already"):
        list(rewrite(tiny_data, tmp_path / "same", lambda proteins: proteins, "nothing"))
