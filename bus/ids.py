"""A set of ids for millions of them: 16 bytes each instead of some 200, newest generations kept, oldest forgotten."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

_BUCKETS = 1 << 16
_WIDTH = 16
_EMPTY = b""
_NOTHING = [_EMPTY] * _BUCKETS
#: Begun once and copied for each id, which costs half of beginning anew.
_begun = hashlib.blake2b(digest_size=_WIDTH).copy


def digest(text: str) -> bytes:
    hashed = _begun()
    hashed.update(text.encode())
    return hashed.digest()


class _Generation:
    """Digests in buckets by their first two bytes: a look-up is one short search, an insertion one short copy."""

    def __init__(self) -> None:
        self._buckets = _NOTHING  # most sets stay empty: their own buckets come with the first id
        self.size = 0

    def holds(self, key: bytes) -> bool:
        bucket = self._buckets[key[0] << 8 | key[1]]
        place = bucket.find(key)
        while place % _WIDTH:  # -1 % 16 is 15; a match across two keys is none
            if place < 0:
                return False
            place = bucket.find(key, place + 1)
        return True

    def add(self, key: bytes) -> bool:
        """False: it was there. Every row of the log comes through here: one look at its bucket does for both."""
        number = key[0] << 8 | key[1]
        bucket = self._buckets[number]
        if key in bucket and self.holds(key):
            return False
        if self._buckets is _NOTHING:
            self._buckets = [_EMPTY] * _BUCKETS
        self._buckets[number] = bucket + key
        self.size += 1
        return True

    def dump(self) -> bytes:
        """The buckets' lengths, then the buckets: read again by slicing, however many there are."""
        if self.size == 0:
            return b""
        return array("I", map(len, self._buckets)).tobytes() + b"".join(self._buckets)

    @classmethod
    def load(cls, block: bytes) -> _Generation:
        """Raises ValueError for bytes that `dump` did not write."""
        generation = cls()
        if not block:
            return generation
        lengths = array("I")
        place = _BUCKETS * lengths.itemsize
        lengths.frombytes(block[:place])
        if len(lengths) != _BUCKETS or place + sum(lengths) != len(block):
            raise ValueError("a set of ids was cut off")
        generation._buckets = [_EMPTY] * _BUCKETS
        for number, length in enumerate(lengths):
            if length:
                generation._buckets[number] = block[place : place + length]
                place += length
        generation.size = sum(lengths) // _WIDTH
        return generation


class IdSet:
    """Remembers at least the newest `limit` ids, at most twice as many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._new, self._old = _Generation(), _Generation()

    def __contains__(self, text: str) -> bool:
        key = digest(text)
        return self._new.holds(key) or (self._old.size > 0 and self._old.holds(key))

    def __len__(self) -> int:
        return self._new.size + self._old.size

    def add(self, text: str) -> bool:
        """False: it was there."""
        key = digest(text)
        if self._old.size > 0 and self._old.holds(key):
            return False
        if self._new.size >= self._limit:
            if self._new.holds(key):
                return False
            self._old, self._new = self._new, _Generation()
        return self._new.add(key)

    def dump(self) -> list[bytes]:
        """One block a generation, the older first."""
        return [self._old.dump(), self._new.dump()]

    def load(self, blocks: Iterable[bytes]) -> None:
        """Into an empty set."""
        self._old, self._new = map(_Generation.load, blocks)
