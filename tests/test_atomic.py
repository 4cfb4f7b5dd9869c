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
    with atomic_write(path) as partial:
        assert partial == tmp_path / "table.csv.partial"
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_exception_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_what_a_killed_process_left_is_no_beginning(tmp_path: Path) -> None:
    (tmp_path / "table.csv.partial").write_text("half")
    with atomic_write(tmp_path / "table.csv") as partial:
        assert not partial.exists()
        partial.write_text("new")
    assert (tmp_path / "table.csv").read_text() == "new"


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "table.csv") as partial:
        partial.write_text("new")


def test_a_file_is_whole_or_a_sentence(tmp_path):
    write_whole(tmp_path / "new" / "a.md", "text")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.md"]
    with pytest.raises(ProtcliError, match=r"a\.md/b\.md cannot be written"):
        write_whole(tmp_path / "new" / "a.md" / "b.md", "text")
