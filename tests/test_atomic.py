"""A file appears whole or not at all."""

from pathlib import Path

import pytest

from protcli.atomic import atomic_write, write_whole
from protcli.errors import ProtcliError


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_has_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    (tmp_path / "table.csv.partial").write_text("half")  # of a killed process
    with atomic_write(path) as partial:
        assert partial == tmp_path / "table.csv.partial"
        assert not partial.exists()
        partial.write_text("new")
        assert path.read_text() == "old"
    for error in (KeyboardInterrupt, OSError):
        with pytest.raises(error), atomic_write(path) as partial:  # noqa: PT012
            partial.write_text("half")
            raise error
    assert path.read_text() == "new"
    assert names(tmp_path) == ["table.csv"]


def test_a_file_is_whole_or_a_sentence(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.md", "text")
    assert names(tmp_path / "new") == ["a.md"]
    with pytest.raises(ProtcliError, match=r"a\.md/b\.md cannot be written"):
        write_whole(tmp_path / "new" / "a.md" / "b.md", "text")
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "table.csv") as partial:
        partial.write_text("new")
