"""Proteins on disk: a folder with a manifest and one memory-mapped Arrow file per split."""

from protcli.proteins.store.columns import BATCH_RECORDS
from protcli.proteins.store.creation import StoreWriter, create_store
from protcli.proteins.store.folder import FORMAT_VERSION, MANIFEST, Store, open_store
from protcli.proteins.store.split import TESTING, TRAINING, VALIDATION, Split, split_name
from protcli.proteins.store.writer import SplitWriter

__all__ = [
    "BATCH_RECORDS",
    "FORMAT_VERSION",
    "MANIFEST",
    "TESTING",
    "TRAINING",
    "VALIDATION",
    "Split",
    "SplitWriter",
    "Store",
    "StoreWriter",
    "create_store",
    "open_store",
    "split_name",
]
