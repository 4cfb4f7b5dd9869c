"""Proteins on disk: a folder with a manifest and, for each split, a memory-mapped Arrow file and its families."""

from protcli.proteins.store.columns import BATCH_RECORDS
from protcli.proteins.store.reading import (
    FORMAT_VERSION,
    MANIFEST,
    TESTING,
    TRAINING,
    VALIDATION,
    Split,
    Store,
    open_store,
    split_name,
)
from protcli.proteins.store.writing import (
    TABLE,
    Families,
    SplitWriter,
    StoreWriter,
    create_store,
    replace_families,
)

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
