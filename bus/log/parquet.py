"""Parquet for commits of a few rows, written by hand: a general writer spends a millisecond on what is nearly all constant.

One row group, one uncompressed plain page a column, every column optional: the plainest file the format knows
(apache/parquet-format: README, Encodings, parquet.thrift). Many rows go through pyarrow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence, Set
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
    if len(values) == 1:
        data = values[0].encode()
        return _length(len(data)) + data
    parts = [b""] * (2 * len(values))
    parts[1::2] = texts = [value.encode() for value in values]
    parts[::2] = map(_length, map(len, texts))
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
#: Pages that are kept, at most.
_ALIKE_KEPT = 2_000
_PLAIN_AND_RLE = _list(_I32, [_zigzag(0), _zigzag(3)])


class SmallParquet:
    """Files of one table. Raises KeyError when made for a table with a column type it cannot write.

    `varied`: columns whose values hardly ever come again. A page of any other, the same in every row, is made once.
    """

    def __init__(self, table: TableSchema, varied: Set[str] = frozenset()) -> None:
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
        self._repeating = {place for place, column in enumerate(columns) if column.name not in varied}
        self._alike: dict[tuple[int, int, Any], tuple[bytes, bytes, bytes]] = {}
        self._shapes: dict[int, _Shape] = {}
        self._footer = _field(1, _I32, _zigzag(1)) + _field(1, _LIST, _list(_STRUCT, schema))

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """The file's bytes. There is a row, and every row has every column; times are microseconds. Raises struct.error or
        AttributeError for a value that is not of its column's type."""
        count = len(rows)
        shape = self._shapes.get(count) or self._shapes.setdefault(count, _Shape(count, self._heads))
        parts, offset = [_MAGIC], len(_MAGIC)
        chunks: list[bytes] = []
        counted, zigzags = shape.counted, _ZIGZAGS
        for place, values in enumerate(zip(*map(self._pick, rows), strict=True)):
            first = values[0]
            same = values.count(first) == count  # as most columns of a commit
            if same and (first is None or place in self._repeating):
                key = (place, count, first)
                made = self._alike.get(key)
                if made is None:
                    if len(self._alike) >= _ALIKE_KEPT:
                        self._alike.clear()
                    made = self._alike[key] = self._column(shape, place, values, same)
            else:
                made = self._column(shape, place, values, same)
            page, head, measured = made
            parts.append(page)
            where = zigzags[offset] if offset < 8192 else _zigzag(offset)
            # num_values, total_uncompressed_size, total_compressed_size, data_page_offset
            chunks.append(b"\x26" + where + head + measured + where + b"\x00\x00")
            offset += len(page)
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

    def _column(self, shape: _Shape, place: int, values: Sequence[Any], same: bool) -> tuple[bytes, bytes, bytes]:
        """A column's page with its header, and what its chunk says before and after the page's offset comes up again."""
        first, encode = values[0], self._encoders[place]
        if same:
            page = shape.none_there if first is None else shape.all_there + encode((first,)) * len(values)
        elif None not in values:
            page = shape.all_there + encode(values)
        else:
            levels = b"".join([b"\x02\x00" if value is None else b"\x02\x01" for value in values])
            page = _length(len(levels)) + levels + encode([value for value in values if value is not None])
        size = _zigzag(len(page))
        page = b"\x15\x00\x15" + size + b"\x15" + size + shape.data_page + page
        measured = b"\x16" + _zigzag(len(page))
        return page, shape.heads[place], measured + measured + b"\x26"


class _Shape:
    """What pages and chunks of files with so many rows have in common."""

    def __init__(self, count: int, heads: Sequence[bytes]) -> None:
        self.counted = _zigzag(count)
        self.all_there, self.none_there = (
            _length(len(run)) + run for run in (_varint(count << 1) + b"\x01", _varint(count << 1) + b"\x00")
        )
        inner = _field(1, _I32, self.counted) + b"\x15\x00\x15\x06\x15\x06" + _STOP
        self.data_page = _field(2, _STRUCT, inner) + _STOP
        self.heads = [b"\x1c" + head + b"\x16" + self.counted for head in heads]
