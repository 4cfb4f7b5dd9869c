"""Proteins on disk: a folder with a manifest and, for each split, a memory-mapped Arrow file and its families."""

from protcli.proteins.store.columns import BATCH_RECORDS
from protcli.proteins.store.creation import StoreWriter, create_store, replace_families
from protcli.proteins.store.families import TABLE, Families
from protcli.proteins.store.folder import FORMAT_VERSION, MANIFEST, Store, open_store
from protcli.proteins.store.split import TESTING, TRAINING, VALIDATION, Split, split_name
from protcli.proteins.store.writer import SplitWriter

__all__ = [
    "BATCH_RECORDS",
    "FORMAT_VERSION",
    "MANIFEST",
    "TABLE",
    "TESTING",
    "TRAINING",
    "VALIDATION",
    "Families",
    "Split",
    "SplitWriter",
    "Store",
    "StoreWriter",
    "create_store",
    "open_store",
    "replace_families",
    "split_name",
]
