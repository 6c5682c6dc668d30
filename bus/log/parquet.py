"""Parquet for commits of a few rows, written by hand: a general writer spends a millisecond on what is nearly all constant.

One row group, one uncompressed plain page a column, every column optional: the plainest file the format knows
(apache/parquet-format: README, Encodings, parquet.thrift). Many rows go through pyarrow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from schemas.columns import TableSchema

_MAGIC = b"PAR1"
_CREATED_BY = b"tailrace version 0.1"
_length = struct.Struct("<I").pack

# Thrift's compact protocol: types of fields.
_I32, _I64, _BINARY, _LIST, _STRUCT, _TRUE, _STOP = 5, 6, 8, 9, 12, 1, b"\x00"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


#: Sizes, counts and enumerations: never negative, nearly always small.
_ZIGZAGS = [_varint(value << 1) for value in range(8192)]


def _zigzag(value: int) -> bytes:
    return _ZIGZAGS[value] if value < 8192 else _varint(value << 1)


def _field(delta: int, kind: int, value: bytes = b"") -> bytes:
    return bytes((delta << 4 | kind,)) + value


def _binary(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _list(kind: int, items: Sequence[bytes]) -> bytes:
    head = bytes((len(items) << 4 | kind,)) if len(items) < 15 else bytes((0xF0 | kind,)) + _varint(len(items))
    return head + b"".join(items)


def _texts(values: Sequence[Any]) -> bytes:
    parts = [b""] * (2 * len(values))
    parts[1::2] = data = [value.encode() for value in values]
    parts[::2] = map(_length, map(len, data))
    return b"".join(parts)


def _integers(code: str) -> Callable[[Sequence[Any]], bytes]:
    return lambda values: struct.pack(f"<{len(values)}{code}", *values)


#: Column type -> (physical type, what the schema adds about its meaning, encoder of plain values).
_TYPES: dict[str, tuple[int, bytes, Callable[[Sequence[Any]], bytes]]] = {
    # converted type UTF8; logical type STRING
    "string": (6, _field(2, _I32, _zigzag(0)) + _field(4, _STRUCT, _field(1, _STRUCT, _STOP) + _STOP), _texts),
    "long": (2, b"", _integers("q")),
    "int": (1, b"", _integers("i")),
    # converted type TIMESTAMP_MICROS; logical type TIMESTAMP, adjusted to UTC, in MICROS
    "timestamp": (
        2,
        _field(2, _I32, _zigzag(10))
        + _field(
            4,
            _STRUCT,
            _field(8, _STRUCT, _field(1, _TRUE) + _field(1, _STRUCT, _field(2, _STRUCT, _STOP) + _STOP) + _STOP)
            + _STOP,
        ),
        _integers("q"),
    ),
}

_OPTIONAL = 1
_PLAIN_AND_RLE = _list(_I32, [_zigzag(0), _zigzag(3)])


class SmallParquet:
    """Files of one table. Raises KeyError when made for a table with a column type it cannot write."""

    def __init__(self, table: TableSchema) -> None:
        columns = [column for column in table.columns if column.name not in table.partition_by]
        self._pick = itemgetter(*(column.name for column in columns))
        self._encoders = [_TYPES[column.type][2] for column in columns]
        #: What each column's metadata begins with: type, encodings, path, no compression.
        self._heads = []
        schema = [_field(4, _BINARY, _binary(b"schema")) + _field(1, _I32, _zigzag(len(columns))) + _STOP]
        for column in columns:
            physical, meaning, _ = _TYPES[column.type]
            name = _binary(column.name.encode())
            kind = _field(1, _I32, _zigzag(physical))
            schema.append(kind + _field(2, _I32, _zigzag(_OPTIONAL)) + _field(1, _BINARY, name) + meaning + _STOP)
            self._heads.append(
                kind
                + _field(1, _LIST, _PLAIN_AND_RLE)
                + _field(1, _LIST, _list(_BINARY, [name]))
                + _field(1, _I32, _zigzag(0))
            )
        self._footer = _field(1, _I32, _zigzag(1)) + _field(1, _LIST, _list(_STRUCT, schema))

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """The file's bytes. There is a row, and every row has every column; times are microseconds. Raises struct.error or
        AttributeError for a value that is not of its column's type."""
        count = len(rows)
        parts, offset = [_MAGIC], len(_MAGIC)
        chunks: list[bytes] = []
        counted = _zigzag(count)
        zigzags = _ZIGZAGS
        page_tail = _field(2, _STRUCT, _field(1, _I32, counted) + b"\x15\x00\x15\x06\x15\x06" + _STOP) + _STOP
        all_there, none_there = (
            _length(len(run)) + run for run in (_varint(count << 1) + b"\x01", _varint(count << 1) + b"\x00")
        )
        columns = zip(*map(self._pick, rows), strict=True)
        for values, encode, head in zip(columns, self._encoders, self._heads, strict=True):
            first = values[0]
            if values.count(first) == count:  # as most columns of a commit
                page = none_there if first is None else all_there + encode([first]) * count
            elif None not in values:
                page = all_there + encode(values)
            else:
                levels = b"".join([b"\x02\x00" if value is None else b"\x02\x01" for value in values])
                page = _length(len(levels)) + levels + encode([value for value in values if value is not None])
            length = len(page)
            size = zigzags[length] if length < 8192 else _zigzag(length)
            header = b"\x15\x00\x15" + size + b"\x15" + size + page_tail
            parts += (header, page)
            total = len(header) + length
            measured = zigzags[total] if total < 8192 else _zigzag(total)
            where = zigzags[offset] if offset < 8192 else _zigzag(offset)
            # num_values, total_uncompressed_size, total_compressed_size, data_page_offset
            chunks.append(
                b"\x26" + where + b"\x1c" + head
                + b"\x16" + counted + b"\x16" + measured + b"\x16" + measured + b"\x26" + where + _STOP + _STOP
            )  # fmt: skip
            offset += total
        group = (
            _field(1, _LIST, _list(_STRUCT, chunks))
            + b"\x16"
            + _zigzag(offset - len(_MAGIC))
            + b"\x16"
            + counted
            + _STOP
        )
        footer = self._footer + b"\x16" + counted + _field(1, _LIST, _list(_STRUCT, [group]))
        footer += _field(2, _BINARY, _binary(_CREATED_BY)) + _STOP
        return b"".join((*parts, footer, _length(len(footer)), _MAGIC))
