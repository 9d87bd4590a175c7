"""Result files, the shared result store, identities of results, and leases on them."""

from vlmrank.errors import FAILED, OK
from vlmrank.store.cache import ResultStore
from vlmrank.store.files import DamagedFile, atomic, read_csv, read_json, write_csv, write_json
from vlmrank.store.gathered import Alignment, Divergences, read_alignment, read_dcd, write_alignment, write_dcd
from vlmrank.store.hdf5 import UTF8, create_hdf5, open_hdf5
from vlmrank.store.pair import (
    PAIR_ATTRIBUTES,
    Pair,
    distrusted_models,
    read_logits,
    read_pair,
    read_pair_attributes,
    write_pair,
)

__all__ = [
    "FAILED",
    "OK",
    "PAIR_ATTRIBUTES",
    "UTF8",
    "Alignment",
    "DamagedFile",
    "Divergences",
    "Pair",
    "ResultStore",
    "atomic",
    "create_hdf5",
    "distrusted_models",
    "open_hdf5",
    "read_alignment",
    "read_csv",
    "read_dcd",
    "read_json",
    "read_logits",
    "read_pair",
    "read_pair_attributes",
    "write_alignment",
    "write_csv",
    "write_dcd",
    "write_json",
    "write_pair",
]
