"""Profiles of chains from the alignments that lie beside them, as OpenProteinSet, ColabFold and AlphaFold keep them."""

import re
from collections import defaultdict
from collections.abc import Generator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.data.rewrite import rewrite
from protcli.experiments.pages import Progress
from protcli.proteins.formats.sequences import ALIGNMENT_SUFFIXES, read_alignments, suffix_of
from protcli.proteins.homology import SequenceDatabase
from protcli.proteins.profiles import alignment_profile
from protcli.proteins.protein import Protein

SAME = 0.95  # from which on a chain is that of an alignment, see `Alignment.fit`
DEPTH = 4  # levels of folders in which files are looked for: pdb/1abc_A/a3m/uniref90_hits.a3m
LISTED = 5  # chains that keep their profiles and are named

_STRUCTURE_ID = re.compile(r"(.+?)_\d+(_[^_]+)?")  # file, number and name of a chain, see `structures.read_structure`
_NANOFOLD = re.compile("chain_((?:[0-9a-f]{2})+)")  # a chain's id, in hexadecimal


class Profiles:
    """Makes profiles for chains; as text, it says what became of those since it was asked last.

    A chain's files are those called after it, or in a folder called after it: by its id without ProteinNet's class, or
    by the structure file's name with or without the chain's (1abc_A or 1abc for 1abc_1_A). Small and capital letters
    count in the chain's name alone, and only where there is one of each. Several files are joined.
    """

    def __init__(self, alignments: Path, skip_bad: bool) -> None:
        """Look for the files. Raises ProtcliError if there is none."""
        self._folder, self._skip_bad, self._given = alignments, skip_bad, 0
        self._kept: list[str] = []
        self._files: dict[str, list[Path]] = defaultdict(list)  # by names in small letters
        for level in range(DEPTH):
            for path in sorted(alignments.glob("*/" * level + "*")):  # follows links to folders, but not for ever
                if (suffix := suffix_of(path)) in ALIGNMENT_SUFFIXES and path.is_file():
                    name = path.name.lower().rpartition(suffix)[0]
                    if coded := _NANOFOLD.fullmatch(name):
                        name = bytes.fromhex(coded[1]).decode("utf-8", "replace").lower()
                    for each in {name, *map(str.lower, path.parts[-1 - level : -1])}:
                        self._files[each].append(path)
        if not self._files:
            raise ProtcliError(
                f"{alignments}: is no folder of alignments; expected files such as 1abc_A.a3m or 1abc_A/a3m/hits.a3m"
            )

    def give(self, protein: Protein) -> Protein:
        """The protein with the profile of its alignment, or as it is where it has none.

        Raises:
            ProtcliError: a file cannot be read or is of another protein, unless such files are skipped.
        """
        try:
            rows = [self._rows(protein, path)[number > 0 :] for number, path in enumerate(self._files_of(protein.id))]
        except ProtcliError as error:
            if not self._skip_bad:
                raise
            self._kept.insert(0, str(error))
            return protein
        if not rows:
            self._kept.append(protein.id)
            return protein
        self._given += 1
        return replace(protein, profile=alignment_profile(np.concatenate(rows)), has_profile=True)

    def __str__(self) -> str:
        given, kept, self._given, self._kept = self._given, self._kept, 0, []
        names = "; ".join(kept[:LISTED]) + "; ..." * (len(kept) > LISTED)
        rest = f"; {len(kept):,} keep what they have: {names}" if kept else ""
        return f"profiles from the alignments in {self._folder.name}: {given:,}{rest}"

    def _files_of(self, id: str) -> list[Path]:
        name = id.rpartition("#")[2]
        file, chain = match.groups("") if (match := _STRUCTURE_ID.fullmatch(name)) else (name, "")
        names = (each.lower() for each in (name, file + chain, file))
        found = next((self._files[each] for each in names if each in self._files), [])
        return [path for path in found if chain in str(path)] or found

    def _rows(self, protein: Protein, path: Path) -> np.ndarray:
        """The rows of a file, which are aligned with the protein."""
        alike, rows = max((each.fit(protein.sequence) for each in read_alignments(path)), key=itemgetter(0))
        if alike < SAME:
            raise ProtcliError(
                f"{path}: {alike:.0%} of its first sequence are in {protein.id}; expected {SAME:.0%} of the "
                "shorter one (--skip-bad leaves such alignments out)"
            )
        return rows


def give_profiles(
    path: str | Path,
    out: str | Path,
    *,
    alignments: Path | None = None,
    database: Path | None = None,
    skip_bad: bool = False,
) -> Generator[Progress]:
    """Write a new store with the proteins of another and profiles of their relatives, yielding progress.

    Args:
        path, out: see `rewrite`.
        alignments: folder, see `Profiles`. A chain that has none there keeps its profile; or
        database: FASTA file in which the relatives of chains without a profile are searched.
        skip_bad: leave out files that cannot be read or are of another protein, and note them in the manifest.

    Raises:
        ProtcliError: as `rewrite` and `Profiles` or `SequenceDatabase.read` do; neither is given, or both.
    """
    if alignments is None and database is not None:
        found = f"where there was none, profiles of relatives in {database.name}"
        return rewrite(path, out, SequenceDatabase.read(database).give_profiles, found)
    if alignments is None or database is not None:
        raise ProtcliError("give --alignments DIR or --database FILE, one of the two")
    profiles = Profiles(alignments, skip_bad)
    return rewrite(path, out, lambda proteins: map(profiles.give, proteins), profiles)
