"""A Merkle tree over the rows that one key signs in one commit: one signature for all, and a short path for each."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Iterator, Sequence

_HASH = 32
_TEXT = 44  # base64 of a hash
_LEAF, _NODE = b"\x00", b"\x01"  # a leaf can never be taken for a node


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(_LEAF + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def grow(rows: Sequence[bytes]) -> list[list[bytes]]:
    """Levels from the rows' leaves up to the root; the last of an odd level goes up as it is."""
    sha256 = hashlib.sha256
    levels = [[sha256(_LEAF + row).digest() for row in rows]]
    while len(level := levels[-1]) > 1:
        above = [sha256(_NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        levels.append(above + level[len(level) & ~1 :])
    return levels


def paths(levels: Sequence[Sequence[bytes]]) -> list[str]:
    """For each leaf its siblings from the bottom up as text: each encoded once, however many rows it stands in."""
    found = [""]
    for level in reversed(levels[:-1]):
        texts = [b2a_base64(node, newline=False).decode() for node in level]
        last = len(level) - 1
        # What is above is the same for both children of a node; each adds its sibling below.
        found = [found[p >> 1] if p ^ 1 > last else texts[p ^ 1] + found[p >> 1] for p in range(len(level))]
    return found


def climb(data: bytes, place: int, size: int, path: str) -> Iterator[tuple[bytes, int, int, str]]:
    """Nodes from a row up to the root, each with its place, its level's size and the rest of the path.

    Raises ValueError when the path does not fit.
    """
    if not 0 <= place < size:
        raise ValueError("a place outside the tree")
    node = leaf(data)
    yield node, place, size, path
    while size > 1:
        if place ^ 1 < size:
            text, path = path[:_TEXT], path[_TEXT:]
            sibling = b64decode(text, validate=True)
            if len(sibling) != _HASH or b2a_base64(sibling, newline=False).decode() != text:
                raise ValueError("a path too short, or in a second spelling")
            node = _node(sibling, node) if place & 1 else _node(node, sibling)
        place, size = place >> 1, (size + 1) >> 1
        if size == 1 and path:
            raise ValueError("a path too long")
        yield node, place, size, path
