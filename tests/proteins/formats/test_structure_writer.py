"""Written structures are read again, by protcli and by biotite."""

from pathlib import Path

import numpy as np
import pytest

from protcli.proteins.formats.structures import cif_text, pdb_text, read_structure
from protcli.proteins.residues import AMINO_ACIDS

SEQUENCE = AMINO_ACIDS + "X"
REMARK = (
    "predicted by a model of many words, so that the remark takes more than a line of a PDB file; it is's no 'quote'"
)


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    coords, error = rng.normal(0, 30, (21, 3)), rng.uniform(0, 20, 21)
    error[3], error[4] = 2000, np.nan
    text = (
        pdb_text(SEQUENCE, coords, error, REMARK) if suffix == "pdb" else cif_text("n", SEQUENCE, coords, error, REMARK)
    )
    path = tmp_path / f"some.{suffix}"
    path.write_text(text)
    [protein] = read_structure(path)
    assert protein.sequence == SEQUENCE
    np.testing.assert_allclose(protein.atom("ca"), coords, atol=6e-4)
    if suffix == "pdb":
        lines = text.splitlines()
        assert all(len(line) <= 80 for line in lines)
        assert " ".join(line[11:] for line in lines if line.startswith("REMARK   1")) == REMARK
        found = [float(line[60:66]) for line in lines if line.startswith("ATOM")]
        np.testing.assert_allclose(found, [*error[:3], 999.99, 0, *error[5:]], atol=6e-3)
        assert lines[-2:] == ["TER", "END"]
    else:
        from biotite.structure.io.pdbx import CIFFile, get_structure

        file = CIFFile.read(path)
        assert file.block["struct"]["title"].as_item() == REMARK
        atoms = get_structure(file, model=1, extra_fields=["b_factor"])
        np.testing.assert_allclose(atoms.b_factor[:3], error[:3], rtol=1e-5)
