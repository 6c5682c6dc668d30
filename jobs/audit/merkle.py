"""The Merkle tree over all rows of the log, as RFC 6962 builds it: one root for any number of first rows.

A leaf is a row: the bytes that are signed, then key_id, signature, log_version, seq and handling_id, which are not. So the
root says of every row what it says, who signed it, and where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Any

from schemas.tables import SIGNED_COLUMNS

#: What follows the signed columns in a leaf.
UNSIGNED_COLUMNS = ("key_id", "signature", "log_version", "seq", "handling_id")

_length = Struct(">q").pack
_number = Struct(">qq").pack
_place = Struct(">qqqq").pack
_NULL = _length(-1)


def encoded(value: Any) -> bytes:
    """A value with its length before it; -1 for null. Integers are eight bytes."""
    if value is None:
        return _length(-1)
    if isinstance(value, int):
        return _number(8, value)
    data = str(value).encode()
    return _length(len(data)) + data


def leaf_of(row: Mapping[str, Any], table_id: str, environment: str) -> bytes:
    """Of any row of the table, also one that is no message."""
    place = (table_id, environment, row["key_id"] or "")
    values = (*place, *(row[name] for name in SIGNED_COLUMNS), *(row[name] for name in UNSIGNED_COLUMNS))
    return sha256(b"\x00" + b"".join(map(encoded, values))).digest()


def leaf_of_signed(data: bytes, row: Mapping[str, Any]) -> bytes:
    """The same for a row whose signed bytes are known, and which has key, signature and place."""
    signature, handling_id = row["signature"].encode(), row["handling_id"]
    parts = (
        b"\x00",
        data,
        _alike(row["key_id"]),
        _length(len(signature)),
        signature,
        _place(8, row["log_version"], 8, row["seq"]),
        _NULL if handling_id is None else encoded(handling_id),
    )
    return sha256(b"".join(parts)).digest()


@lru_cache(maxsize=1000)
def _alike(value: str) -> bytes:
    return encoded(value)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Peaks:
    """The roots of the perfect trees that so many rows consist of, largest first: enough to go on, and for the root."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Raises ValueError when it takes another number of peaks for this size."""
        if size < 0 or len(peaks) != size.bit_count():
            raise ValueError(f"{len(peaks)} peaks cannot stand for {size} rows")
        self.size = size
        self.peaks = list(peaks)

    def add(self, leaf: bytes) -> None:
        size = self.size
        while size & 1:
            leaf = node(self.peaks.pop(), leaf)
            size >>= 1
        self.peaks.append(leaf)
        self.size += 1

    @property
    def root(self) -> bytes:
        if not self.peaks:
            return sha256(b"").digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node(peak, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    peaks = Peaks()
    for leaf in leaves:
        peaks.add(leaf)
    return peaks.root
