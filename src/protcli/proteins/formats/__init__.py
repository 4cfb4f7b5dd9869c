"""The files that proteins come in: ProteinNet as text and as TFRecord, PDB and mmCIF, FASTA; each a reader."""
