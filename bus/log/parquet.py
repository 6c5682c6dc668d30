"""Parquet for the log's commits, written by hand: a general writer spends its time on what is nearly all constant.

One row group, one page a column, every column optional: the plainest file the format knows (apache/parquet-format:
README, Encodings, parquet.thrift). `SmallParquet` takes a few rows, `BulkParquet` many rows that are columns already.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from schemas.columns import Column, TableSchema

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
_DICTIONARY_TOO = _list(_I32, [_zigzag(0), _zigzag(3), _zigzag(8)])
_UNCOMPRESSED, _SNAPPY = _zigzag(0), _zigzag(1)
_PLAIN, _DICTIONARY = _zigzag(0), _zigzag(8)


@lru_cache(maxsize=256)
def _head(column: Column, encodings: bytes, codec: bytes) -> bytes:
    """What a column's metadata begins with: type, encodings, path, compression."""
    return (
        _field(1, _I32, _zigzag(_TYPES[column.type][0]))
        + _field(1, _LIST, encodings)
        + _field(1, _LIST, _list(_BINARY, [_binary(column.name.encode())]))
        + _field(1, _I32, codec)
    )


def _schema(columns: Sequence[Column]) -> bytes:
    """What a footer begins with."""
    found = [_field(4, _BINARY, _binary(b"schema")) + _field(1, _I32, _zigzag(len(columns))) + _STOP]
    for column in columns:
        physical, meaning, _ = _TYPES[column.type]
        name = _field(1, _BINARY, _binary(column.name.encode()))
        found.append(_field(1, _I32, _zigzag(physical)) + _field(2, _I32, _zigzag(_OPTIONAL)) + name + meaning + _STOP)
    return _field(1, _I32, _zigzag(1)) + _field(1, _LIST, _list(_STRUCT, found))


def _footer(schema: bytes, counted: bytes, chunks: Sequence[bytes], size: int) -> bytes:
    group = _field(1, _LIST, _list(_STRUCT, chunks)) + b"\x16" + _zigzag(size) + b"\x16" + counted + _STOP
    groups = _field(1, _LIST, _list(_STRUCT, [group]))
    return schema + b"\x16" + counted + groups + _field(2, _BINARY, _binary(_CREATED_BY)) + _STOP


class SmallParquet:
    """Files of one table. Raises KeyError when made for a table with a column type it cannot write.

    `varied`: columns whose values hardly ever come again. A page of any other, the same in every row, is made once.
    """

    def __init__(self, table: TableSchema, varied: Set[str] = frozenset()) -> None:
        columns = [column for column in table.columns if column.name not in table.partition_by]
        self._pick = itemgetter(*(column.name for column in columns))
        self._encoders = [_TYPES[column.type][2] for column in columns]
        #: What each column's metadata begins with.
        self._heads = [_head(column, _PLAIN_AND_RLE, _UNCOMPRESSED) for column in columns]
        self._repeating = {place for place, column in enumerate(columns) if column.name not in varied}
        self._alike: dict[tuple[int, int, Any], tuple[bytes, bytes, bytes]] = {}
        self._shapes: dict[int, _Shape] = {}
        self._schema = _schema(columns)

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
        footer = _footer(self._schema, counted, chunks, offset - len(_MAGIC))
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


@dataclass(frozen=True)
class Plain:
    """A column's values in the plain encoding, without the nulls. `there`: which rows have one; None: all of them."""

    values: Any
    there: Sequence[bool] | None = None
    compressed: bool = False


@dataclass(frozen=True)
class Shared:
    """Few values, each that of `width` rows one after the other. A single one may be None."""

    values: Sequence[Any]
    width: int


class BulkParquet:
    """Files of one table, of rows that are columns already. `snappy` compresses."""

    def __init__(self, table: TableSchema, snappy: Callable[[bytes], bytes]) -> None:
        self._columns = [column for column in table.columns if column.name not in table.partition_by]
        self._schema = _schema(self._columns)
        self._snappy = snappy

    def encode(self, count: int, columns: Sequence[Plain | Shared]) -> bytes:
        """The file's bytes; `columns` in the table's order, for at least one row. Less than 2 GiB a column.

        Raises struct.error or AttributeError for a shared value that is not of its column's type.
        """
        counted = _zigzag(count)
        parts: list[Any] = [_MAGIC]
        chunks: list[bytes] = []
        offset, whole = len(_MAGIC), 0
        for column, given in zip(self._columns, columns, strict=True):
            encodings, codec, dictionary, saved = _PLAIN_AND_RLE, _UNCOMPRESSED, (), 0
            if isinstance(given, Plain):
                page: tuple[Any, ...] = (_levels(count, given.there), given.values)
                if given.compressed:
                    data = b"".join(page)
                    codec, page = _SNAPPY, (self._snappy(data),)
                    saved = len(data) - len(page[0])
            elif given.values[0] is None:
                page = (_levels(count, [False]),)
            else:
                encodings = _DICTIONARY_TOO
                values = _TYPES[column.type][2](given.values)
                dictionary = (_dictionary_header(len(given.values), len(values)), values)
                page = (_levels(count, None), _places(count, len(given.values), given.width))
            length = sum(map(len, page))
            page = (_data_header(counted, length + saved, length, _DICTIONARY if dictionary else _PLAIN), *page)
            begin = sum(map(len, dictionary))
            size = begin + len(page[0]) + length
            # num_values, total_uncompressed_size, total_compressed_size, data_page_offset, dictionary_page_offset
            measured = b"\x16" + counted + b"\x16" + _zigzag(size + saved) + b"\x16" + _zigzag(size)
            where = b"\x26" + _zigzag(offset + begin) + (b"\x26" + _zigzag(offset) if dictionary else b"")
            head = _head(column, encodings, codec)
            chunks.append(b"\x26" + _zigzag(offset) + b"\x1c" + head + measured + where + b"\x00\x00")
            parts += (*dictionary, *page)
            offset, whole = offset + size, whole + size + saved
        footer = _footer(self._schema, counted, chunks, whole)
        return b"".join((*parts, footer, _length(len(footer)), _MAGIC))


def _levels(count: int, there: Sequence[bool] | None) -> bytes:
    """Which rows have a value."""
    if there is None or not any(there):
        runs = _varint(count << 1) + (b"\x01" if there is None else b"\x00")
    else:
        runs = b"".join([b"\x02\x01" if one else b"\x02\x00" for one in there])
    return _length(len(runs)) + runs


@lru_cache(maxsize=16)
def _places(count: int, values: int, width: int) -> bytes:
    """For each row its value's place in the dictionary, which is that of `width` rows one after the other."""
    bits = max(1, (values - 1).bit_length())
    size = (bits + 7) // 8
    runs = [_varint(min(width, count - place * width) << 1) + place.to_bytes(size, "little") for place in range(values)]
    return bytes((bits,)) + b"".join(runs)


def _data_header(counted: bytes, length: int, stored: int, encoding: bytes) -> bytes:
    """Of a page of so many bytes, and of how many it became by compression."""
    inner = _field(1, _I32, counted) + b"\x15" + encoding + b"\x15\x06\x15\x06" + _STOP
    return b"\x15\x00\x15" + _zigzag(length) + b"\x15" + _zigzag(stored) + _field(2, _STRUCT, inner) + _STOP


def _dictionary_header(count: int, length: int) -> bytes:
    size = b"\x15" + _zigzag(length)
    return b"\x15\x04" + size + size + _field(4, _STRUCT, _field(1, _I32, _zigzag(count)) + b"\x15\x00" + _STOP) + _STOP
