"""TFRecord files without TensorFlow: ProteinNet's SequenceExample and the two studies' flat Example."""

from protcli.proteins.formats.tfrecord.reader import (
    FLAT_NOTE,
    PROTEINNET_TEXT,
    PROTEINNET_TFRECORD,
    STUDIES_TFRECORD,
    read_tfrecord,
    sniff,
)

__all__ = ["FLAT_NOTE", "PROTEINNET_TEXT", "PROTEINNET_TFRECORD", "STUDIES_TFRECORD", "read_tfrecord", "sniff"]
