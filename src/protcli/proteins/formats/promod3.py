"""ProMod3's structure database, `structure_db.dat`: real chains with DSSP and deep profiles, memory-mapped.

Little-endian, without padding: a header, the table of chains, and eight columns with a row for each residue; each of
these nine is a uint64 number of rows and the rows. The chains follow each other. Texts have their length before them, 4
for entries and 1 for chains in the published database; they are read with these lengths.

Source: ProMod3 3.2, whose headers (structure_db.hh, structure_db_custom_types.hh) declare what is stored.
"""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from protcli.errors import ProtcliError, quote
from protcli.proteins.formats.files import check_protein
from protcli.proteins.profiles import with_information
from protcli.proteins.protein import Protein
from protcli.proteins.residues import DSSP, sequence_profile

PROMOD3 = "promod3-structure-db"
# 1234, version 2, bytes that each type takes in memory, a 1 of each kind of number, and a bit for each stored column
_HEADER = bytes.fromhex(
    "d204000002000000 0400000004000000020000000800000002000000060000005800000028000000180000000600000004000000"
    "010000000000803f01010001000000000000000100 ffffffff"
)
PROMOD3_SIZES = _HEADER[8:52]  # of the types: in every version, and in no other file
STEPS = (2, 6)  # A between neighbouring CA atoms; 2.5 to 5.1 in the published database
_TABLES = [
    "<u4, S4, <u4, S1, <u4, <u2, <u2, 3<f4",  # 4, entry; 1, chain; first row, rows, first residue's number, shift in A
    "u1",  # letter
    "(4,3)<u2",  # N, CA, C', O in 0.01 A, after the shift was added
    "2<i2",  # dihedrals
    "<u2",  # accessibility
    "<u2",  # depth
    "u1",  # DSSP's letter
    "20<i2",  # frequencies of the amino acids, of 10,000; zeros where there is no profile
    "20<i2",  # the same of fragments of like structure
]


def read_promod3(
    path: Path,
    *,
    on_bad: Callable[[ProtcliError], None] | None = None,
    on_bytes: Callable[[bytes], None] | None = None,
) -> Iterator[Protein]:
    """Read the chains of a structure database in constant memory.

    The ID is `<entry>pm_<n>_<chain>`, with n the place of the chain's letter in the alphabet, 1 for a digit. All
    residues are resolved: the database has one stretch without a gap of each chain. Frequencies are divided by their
    sum and have `profiles.information`; a chain without any has `residues.sequence_profile`.

    Args:
        path: the file.
        on_bad: called with the error of a chain, which is then skipped; without it the error raises.
        on_bytes: called after each chain with the next part of the file; all in all with the whole of it.

    Raises:
        ProtcliError: a chain is broken (with file, number and ID); or, even with `on_bad`, the file cannot be opened,
            is no structure database of this version, is truncated, or contradicts itself.
    """
    tables = []
    at = len(_HEADER)
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if data[:at] != _HEADER:
            raise ValueError(f"it begins with {data[:8]!s}")
        for kind in _TABLES:
            rows = int.from_bytes(data[at : at + 8], "little")
            tables.append(np.frombuffer(data, kind, min(rows, len(data)), at + 8))
            at += 8 + tables[-1].nbytes
        chains, letters, atoms, *_, dssp, frequencies, _ = tables
        ends = chains["f5"].cumsum(dtype=int)
        if at != len(data) or {*map(len, tables[1:])} != {*ends[-1:]} or (chains["f4"] != ends - chains["f5"]).any():
            raise ValueError("its chains, rows and bytes do not fit each other")
    except (OSError, ValueError) as error:
        raise ProtcliError(
            f"{path} is damaged, truncated, compressed or of another version ({error}): expected structure_db.dat of "
            "ProMod3, version 2, as in Debian's promod3-data"
        ) from error
    share = len(data) // len(chains) + 1  # bytes
    for number, chain in enumerate(chains, 1):
        _, entry, _, name, first, count, _, shift = chain.item()
        where = slice(first, first + count)
        name = str(name, "latin-1")
        id = f"{str(entry, 'latin-1')}pm_{ascii_uppercase.find(name.upper()) + 1 or 1}_{name}"
        try:
            sequence = letters[where].tobytes().decode()
            secondary = dssp[where].tobytes().decode()
            if not count or "-" in sequence or not set(secondary) <= set(DSSP) or np.isnan(shift).any():
                raise ValueError("expected letters of amino acids, DSSP's HBEGITSC, and a shift in numbers")
            profile = sequence_profile(sequence)
            sums = frequencies[where].sum(axis=1, keepdims=True)  # [L, 1]
            if has_profile := bool(sums.any()):
                profile = with_information(frequencies[where] / np.maximum(sums, 1))
            coords = (atoms[where, :3] / 100 - shift).astype("f4")  # [L, 3, 3]
            steps = np.linalg.norm(np.diff(atoms[where, 1] / 100, axis=0), axis=-1)  # [L - 1]
            if len(wrong := np.flatnonzero((steps < STEPS[0]) | (steps > STEPS[1]))):
                raise ValueError(
                    f"CA atoms {wrong[0] + 1} and {wrong[0] + 2} are {steps[wrong[0]]:.1f} A apart: expected "
                    f"{STEPS[0]:g} to {STEPS[1]:g} A, as in a chain without a gap"
                )
            codes = np.array([DSSP.index(letter) for letter in secondary], "u1")
            yield check_protein(
                Protein(id, sequence, profile, coords, np.full(count, True), has_profile, secondary=codes)
            )
        except ValueError as error:
            broken = ProtcliError(f"{path}, chain {number}, {quote(id)}: {error}")
            if on_bad is None:
                raise broken from error
            on_bad(broken)
        if on_bytes is not None:
            on_bytes(data[(number - 1) * share : number * share])
        if number % 64 == 0 and hasattr(data, "madvise"):
            data.madvise(mmap.MADV_DONTNEED)  # the memory of what was read
