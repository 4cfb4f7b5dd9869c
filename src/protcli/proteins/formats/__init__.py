"""Readers of protein files: ProteinNet as text and TFRecord, PDB and mmCIF, FASTA."""
