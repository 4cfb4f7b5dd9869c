"""Synthetic protein families: the built-in sample, and any number of further proteins like it.

A *fold* is an ordered list of helices, strands and loops, grown segment by segment inside a ball of the size of real
chains, with ideal bond lengths and angles and no clashes. A *family* assigns residues to a fold: at each position, a
distribution that follows from secondary structure, backbone handedness and burial, sharpened around an ancestor. A
*member* draws its sequence from the family, inserts and deletes residues in loops, and is grown again along the fold,
so that homologues have similar but not identical structures. As in nature, a sequence thus predicts secondary structure
by propensities, burial by hydrophobicity, and the fold by homology.

The same (seed, split, index) gives the same protein, bit for bit, on every machine. Hence the unusual arithmetic:
rotations come from a rounded table of sines and are composed by elementwise products and sums, random numbers are
uniform, and no result depends on BLAS, exp, log or pow, whose last bits differ between processors.
"""

from protcli.proteins.synthetic.members import SPLITS
from protcli.proteins.synthetic.sample import VERSION, sample_store, synthesize, write_synthetic

__all__ = ["SPLITS", "VERSION", "sample_store", "synthesize", "write_synthetic"]
