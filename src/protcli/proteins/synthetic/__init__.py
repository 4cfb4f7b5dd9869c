"""Synthetic protein families: the built-in sample, and any number more of the same kind.

A *fold* is an ordered list of helices, strands and loops, grown segment by segment inside a ball of the size that real
chains have, with ideal bond lengths and angles and no clashes. A *family* puts residues on a fold: at each position a
distribution that follows from secondary structure, backbone hand and burial, sharpened around an ancestor. A *member*
draws its sequence from it, inserts and deletes residues in loops, and is grown again along the fold, so that homologues
have similar structures and none has the same. So what a sequence tells of a structure here is what it tells in nature:
secondary structure from propensities, burial from hydrophobicity, the fold from a homologue.

The same (seed, split, index) gives the same protein to the bit on every machine. Hence the unusual arithmetic:
rotations come from a rounded table of sines and are composed by elementwise products and sums, random numbers are
uniform, and nothing is decided by BLAS, exp, log or pow, whose last bits differ from one processor to the next.
"""

from protcli.proteins.synthetic.sample import VERSION, sample_store, synthesize, write_synthetic
from protcli.proteins.synthetic.streams import SPLITS

__all__ = ["SPLITS", "VERSION", "sample_store", "synthesize", "write_synthetic"]
