"""A fast streaming reader of ProteinNet's text format.

A record is a sequence of sections, each a heading in brackets followed by tab-separated rows:
`[ID]`, `[PRIMARY]`, `[EVOLUTIONARY]` (21 rows of L), `[TERTIARY]` (x, y and z, 3L columns: N, CA, C' of each residue,
in picometres) and `[MASK]`. Blank lines and sections with other names are skipped.
Source of the format: AlQuraishi 2019, ProteinNet, BMC Bioinformatics 20:311.
"""

from protcli.proteins.formats.proteinnet.numbers import place_coords
from protcli.proteins.formats.proteinnet.reader import read_proteinnet

__all__ = ["place_coords", "read_proteinnet"]
