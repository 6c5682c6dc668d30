"""Many rows as columns: a bulk append from plain dicts to Arrow, without a message object a row."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bus.audit import AUDIT_KIND
from bus.errors import ContentTooLarge, NotAMessage
from bus.fold import EXECUTION_CLAIMED, GRANT_REVOKED, INSTANCE_CHANGED
from bus.log.parquet import BulkParquet, Plain, Shared
from bus.log.rows import iso
from bus.log.table import RANDOM, Encoded, parquet
from schemas.envelope import MAX_CONTENT, field_bytes, place_bytes
from schemas.tables import AGENT_MESSAGES, SIGNED_COLUMNS

_SCHEMA = AGENT_MESSAGES.file_schema
_REQUIRED = ("message_id", "correlation_id", "from_agent", "to_agent", "message_type", "kind", "content", "timestamp")
_LONGEST = {"message_id": 100, "correlation_id": 100, "from_agent": 200, "to_agent": 200, "kind": 100}
_MAY_BE_EMPTY = ("to_agent", "content")
_TYPES = ("request", "event")
#: Bytes of columns that may become one page each.
_ONE_PAGE = 8 << 20
_FILES = BulkParquet(AGENT_MESSAGES, lambda data: pa.compress(data, codec="snappy", asbytes=True))
_NOTHING = pa.scalar(b"", pa.binary())
_ENDS = ("min", "max")
_USUAL = {"schema_version": 1, "priority": 5, "attempt": 1}


@dataclass(frozen=True)
class Signatures:
    """Who signed, and the signature column: each text is that of `width` rows one after the other."""

    key_id: str
    texts: Sequence[str]
    width: int


class Columns:
    """Rows that all come from one sender. `common` holds what is the same for all of them.

    Raises NotAMessage for a row that would not be one, and ContentTooLarge.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], common: Mapping[str, Any]) -> None:
        self.size = len(rows)
        self._common = {**_USUAL, **common}
        given = {name: _column(name, rows) for name in SIGNED_COLUMNS if rows and name in rows[0]}
        strangers = {name for row in rows[:1] for name in row} - set(SIGNED_COLUMNS)
        if strangers:
            raise NotAMessage(
                f"there is no column {', '.join(sorted(strangers))}; there are {', '.join(SIGNED_COLUMNS)}"
            )
        for name in _REQUIRED:
            if name not in given and self._common.get(name) is None:
                raise NotAMessage(f"every row needs {name}")
        self._check(given)
        # What all rows say is said once, as if it had been `common` from the start.
        self._columns = {name: column for name, column in given.items() if not _is_one(column)}
        self._common |= {name: _plain(column)[0].as_py() for name, column in given.items() if _is_one(column)}

    @property
    def sender(self) -> str:
        return str(self._common["from_agent"])

    def contents(self) -> Iterator[str]:
        found = self._columns.get("content")
        return iter([str(self._common["content"])] if found is None else found.to_pylist())

    def change_contents(self, change: Callable[[str], str]) -> None:
        """Before they are signed."""
        if "content" in self._columns:
            changed = [change(text) for text in self._columns["content"].to_pylist()]
            self._columns["content"] = pa.array(changed, type=_SCHEMA.field("content").type)
        else:
            self._common["content"] = change(str(self._common["content"]))

    def _check(self, given: Mapping[str, pa.Array]) -> None:
        for name, column in given.items():
            if name in _REQUIRED and column.null_count:
                count = self.size if _is_one(column) else column.null_count
                raise NotAMessage(f"{name} is null in {count} of {self.size} rows")
        for name, longest in _LONGEST.items():
            lengths = _range(given, name, pc.utf8_length)
            if lengths is not None and not (
                (name in _MAY_BE_EMPTY or lengths["min"] >= 1) and lengths["max"] <= longest
            ):
                raise NotAMessage(f"{name} must have 1 to {longest} characters")
        sizes = _range(given, "content", pc.binary_length)
        if sizes is not None and sizes["max"] > MAX_CONTENT:
            raise ContentTooLarge(f"a content holds {sizes['max']} bytes; the limit is {MAX_CONTENT} bytes")
        for name, least, most in (("priority", 1, 10), ("attempt", 1, 2**31 - 1)):
            found = _range(given, name, lambda column: column)
            if found is not None and not (found["min"] is not None and least <= found["min"] and found["max"] <= most):
                raise NotAMessage(f"{name} must be {least} to {most}")
        kinds = set(pc.unique(given["kind"]).to_pylist()) if "kind" in given else {self._common["kind"]}
        if bound := kinds & {AUDIT_KIND, INSTANCE_CHANGED, EXECUTION_CLAIMED, GRANT_REVOKED}:
            raise NotAMessage(
                f"{', '.join(sorted(bound))} is decided or chained as it is committed: send it as a message"
            )
        types = set(pc.unique(given["message_type"]).to_pylist()) if "message_type" in given else set()
        if strange := (types | {self._common.get("message_type") or "request"}) - set(_TYPES):
            raise NotAMessage(f"message_type {', '.join(sorted(strange))}: a producer writes {' or '.join(_TYPES)}")

    # --- signing -----------------------------------------------------------------------------------------------------

    def signed_bytes(self, table_id: str, environment: str, key_id: str) -> list[bytes]:
        """For each row what `Message.signed_bytes` gives for the same row."""
        pieces: list[Any] = []
        # What is the same in all rows is one piece, whatever number of fields it comes from.
        constant = place_bytes(table_id, environment, key_id)
        for name in SIGNED_COLUMNS:
            column = self._columns.get(name)
            if column is None:
                constant += field_bytes(self._common.get(name))
                continue
            before, values = _numbers(column) if pa.types.is_integer(_plain(column).type) else _texts(column)
            pieces += [pa.scalar(constant + before, pa.binary()), *values]
            constant = b""
        if not pieces:
            return [constant] * self.size
        pieces.append(pa.scalar(constant, pa.binary()))
        joined: list[bytes] = pc.binary_join_element_wise(*pieces, _NOTHING).to_pylist()
        return joined

    # --- writing -----------------------------------------------------------------------------------------------------

    def encoded(self, version: int, signatures: Signatures | None) -> Encoded:
        """The commit that tries to be `version`, as it is stored."""
        if self.size and sum(column.nbytes for column in self._columns.values()) < _ONE_PAGE:
            data = _FILES.encode(self.size, list(self._stored(version, signatures)))
        else:  # no reader has to hold more than a page at once
            data = parquet(self.table(version, signatures))
        return Encoded(data, self.size, self._stats(version))

    def _stored(self, version: int, signatures: Signatures | None) -> Iterator[Plain | Shared]:
        columns = {**self._columns, "seq": _places(self.size, 1)}
        common = self._of_all(version, signatures)
        for name in _SCHEMA.names:
            if signatures is not None and name == "signature":
                yield Shared(signatures.texts, signatures.width)
            elif name in columns:
                yield _plain_values(columns[name], compressed=name not in RANDOM)
            else:
                yield Shared([common.get(name)], self.size)

    def _of_all(self, version: int, signatures: Signatures | None) -> Mapping[str, Any]:
        """What is the same in all rows of that commit."""
        signed = {} if signatures is None else {"key_id": signatures.key_id}
        return {**self._common, **signed, "log_version": version}

    def table(self, version: int, signatures: Signatures | None) -> pa.Table:
        """The rows of that commit."""
        columns: dict[str, pa.Array] = {**self._columns, "seq": _places(self.size, 1)}
        common = self._of_all(version, signatures)
        if signatures is not None:
            texts = pa.array(signatures.texts, pa.string())
            columns["signature"] = pa.DictionaryArray.from_arrays(_places(self.size, signatures.width), texts)
        for field in _SCHEMA:
            if field.name not in columns:
                columns[field.name] = pa.repeat(pa.scalar(common.get(field.name), field.type), self.size)
        return pa.Table.from_arrays([columns[name] for name in _SCHEMA.names], names=_SCHEMA.names)

    def _stats(self, version: int) -> dict[str, Any]:
        """Least and greatest value of the columns that readers skip files by, as Delta writes them."""
        least: dict[str, Any] = {}
        most: dict[str, Any] = {}
        common = {**self._common, "log_version": version}
        for name in AGENT_MESSAGES.stats:
            column = self._columns.get(name)
            found = pc.min_max(_plain(column)).as_py() if column is not None else dict.fromkeys(_ENDS, common[name])
            as_text = iso if pa.types.is_timestamp(_SCHEMA.field(name).type) else (lambda v: v)
            least[name], most[name] = (as_text(found[end]) for end in _ENDS)
        return {"minValues": least, "maxValues": most, "nullCount": dict.fromkeys(AGENT_MESSAGES.stats, 0)}


@lru_cache(maxsize=16)
def _places(size: int, width: int) -> pa.Array:
    """0, 1, 2 …, each `width` times."""
    return pa.array([place // width for place in range(size)], pa.int32())


def _plain(column: Any) -> Any:
    """Times as the integers they are."""
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    """Of a value that all rows have, that one only."""
    try:
        values = list(map(itemgetter(name), rows))
        # Mostly one and the same object, which is seen without comparing; two neighbours tell most others.
        alike = values[0] == values[-1] and values.count(values[0]) == len(values)
        return pa.array(values[:1] if alike else values, type=_SCHEMA.field(name).type)
    except KeyError:
        raise NotAMessage(
            f"{name} is in the first row and missing in another: all rows need the same columns"
        ) from None
    except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
        raise NotAMessage(f"{name}: {error}") from error


def _is_one(column: pa.Array) -> bool:
    """Whether it is a value of all rows."""
    return len(column) == 1


def _range(given: Mapping[str, pa.Array], name: str, measure: Any) -> dict[str, Any] | None:
    if name not in given:
        return None
    found: dict[str, Any] = pc.min_max(measure(given[name])).as_py()
    return found


#: What stands before a field in every row, and what makes up the rest of it, piece by piece.
_Pieces = tuple[bytes, list[Any]]


def _texts(column: pa.Array) -> _Pieces:
    data = column.cast(pa.binary())
    lengths = pc.binary_length(data)
    if column.null_count:
        return b"", [_fixed(pc.fill_null(lengths, -1)), pc.fill_null(data, b"")]
    if pc.all(pc.equal(lengths, lengths[0])).as_py():
        return _big_endian([lengths[0].as_py()]), [data]
    return b"", [_fixed(lengths), data]


def _plain_values(column: pa.Array, *, compressed: bool) -> Plain:
    """As parquet's plain encoding has them."""
    there = column.is_valid().to_pylist() if column.null_count else None
    found = column.drop_null() if there else column
    if pa.types.is_string(found.type):
        lengths = pc.binary_length(found)
        before = pa.Array.from_buffers(pa.binary(4), len(found), [None, lengths.buffers()[1]]).cast(pa.binary())
        joined = pc.binary_join_element_wise(before, found.cast(pa.binary()), _NOTHING)
        return Plain(memoryview(joined.buffers()[2]), there, compressed)
    width = found.type.bit_width // 8
    values = memoryview(found.buffers()[1])[found.offset * width : (found.offset + len(found)) * width]
    return Plain(values, there, compressed)


def _numbers(column: pa.Array) -> _Pieces:
    values = _plain(column)
    if column.null_count:
        return b"", [pa.array([field_bytes(value) for value in values.to_pylist()], pa.binary())]
    return _big_endian([8]), [_fixed(values)]


def _fixed(numbers: pa.Array) -> pa.Array:
    """Each of these, none of them null, as eight bytes."""
    found = numbers.cast(pa.int64())
    values = array("q")
    values.frombytes(memoryview(found.buffers()[1])[8 * found.offset : 8 * (found.offset + len(found))])
    values.byteswap()
    return pa.Array.from_buffers(pa.binary(8), len(numbers), [None, pa.py_buffer(values)]).cast(pa.binary())


def _big_endian(values: Sequence[int]) -> bytes:
    numbers = array("q", values)
    numbers.byteswap()
    return numbers.tobytes()
