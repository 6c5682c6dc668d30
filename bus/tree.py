"""A Merkle tree over the rows that one key signs in one commit: one signature for all, and a short path for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

_HASH = 32
_LEAF, _NODE = b"\x00", b"\x01"  # a leaf can never be taken for a node


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(_LEAF + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def grow(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Levels from the leaves up to the root; the last of an odd level goes up as it is."""
    levels = [list(leaves)]
    sha256 = hashlib.sha256
    while len(level := levels[-1]) > 1:
        above = [sha256(_NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        levels.append(above + level[len(level) & ~1 :])
    return levels


def paths(levels: Sequence[Sequence[bytes]]) -> list[bytes]:
    """For each leaf its siblings from the bottom up, end to end."""
    found = [b""]
    for level in reversed(levels[:-1]):
        last = len(level) - 1
        # What is above is the same for both children of a node; each adds its sibling below.
        found = [
            above if (sibling := place ^ 1) > last else level[sibling] + above
            for place in range(len(level))
            for above in (found[place >> 1],)
        ]
    return found


def climb(data: bytes, place: int, size: int, path: bytes) -> Iterator[tuple[bytes, int, int, bytes]]:
    """Nodes from a row up to the root, each with its place, its level's size and the rest of the path.

    Raises ValueError when the path does not fit.
    """
    if not 0 <= place < size:
        raise ValueError("a place outside the tree")
    node = leaf(data)
    yield node, place, size, path
    while size > 1:
        if place ^ 1 < size:
            sibling, path = path[:_HASH], path[_HASH:]
            if len(sibling) != _HASH:
                raise ValueError("a path too short")
            node = _node(sibling, node) if place & 1 else _node(node, sibling)
        place, size = place >> 1, (size + 1) >> 1
        if size == 1 and path:
            raise ValueError("a path too long")
        yield node, place, size, path
