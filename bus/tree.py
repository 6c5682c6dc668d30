"""A Merkle tree over the rows that one key signs in one commit: one signature for all, and a short path for each.

Leaves stand in groups; over the groups the tree is binary, and the last node of an odd level goes up as it is. A path is a
whole group, then the siblings from the group up to the root: all rows of a group share it as one text, which is what
makes signing thousands of rows cheap.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Iterator, Sequence
from hashlib import blake2b

_HASH = 32
_TEXT = 44  # base64 of a hash
# A leaf can never be taken for a group, nor a group for a node.
# Begun once and copied for each, which costs half of beginning anew.
_LEAF, _GROUP, _NODE = (
    blake2b(digest_size=_HASH, person=person).copy for person in (b"tailrace.leaf", b"tailrace.group", b"tailrace.node")
)


def group_of(size: int) -> int:
    """Rows of a group: few where each row is stored with its text, many where one text is stored for a whole group."""
    return 8 if size <= 256 else 32


def leaf(row: bytes) -> bytes:
    """What stands for a row's signed bytes."""
    hashed = _LEAF()
    hashed.update(row)
    return hashed.digest()


def _group(leaves: bytes) -> bytes:
    hashed = _GROUP()
    hashed.update(leaves)
    return hashed.digest()


def _node(children: bytes) -> bytes:
    hashed = _NODE()
    hashed.update(children)
    return hashed.digest()


class Tree:
    """The tree over the signed bytes of some rows, at least one."""

    def __init__(self, rows: Sequence[bytes]) -> None:
        leaves = []
        for row in rows:  # `leaf` without the call, which thousands of rows would pay for
            hashed = _LEAF()
            hashed.update(row)
            leaves.append(hashed.digest())
        width = group_of(len(leaves))
        self._groups = [b"".join(leaves[place : place + width]) for place in range(0, len(leaves), width)]
        self._levels = [[_group(group) for group in self._groups]]
        while len(level := self._levels[-1]) > 1:
            above = [_node(level[place] + level[place + 1]) for place in range(0, len(level) - 1, 2)]
            self._levels.append(above + level[len(level) & ~1 :])

    @property
    def root(self) -> bytes:
        return self._levels[-1][0]

    def paths(self) -> list[str]:
        """For each group its rows' path, as text: every part encoded once, however many paths it stands in."""
        found = [""]
        for level in reversed(self._levels[:-1]):
            texts = [_encoded(node) for node in level]
            last = len(level) - 1
            # What is above is the same for both children of a node; each adds its sibling below.
            found = [found[p >> 1] if p ^ 1 > last else texts[p ^ 1] + found[p >> 1] for p in range(len(level))]
        return [_encoded(group) + above for group, above in zip(self._groups, found, strict=True)]


def leaves(place: int, size: int, path: str) -> frozenset[bytes]:
    """The leaves of a path's group. Raises ValueError when there is no such group."""
    group, _ = _split(place, size, path)
    return frozenset(group[at : at + _HASH] for at in range(0, len(group), _HASH))


def places(place: int, size: int, path: str) -> dict[bytes, int]:
    """A path's leaves, and where each row stands among all of the tree. Raises ValueError when there is no such group."""
    group, _ = _split(place, size, path)
    first = place * group_of(size)
    return {group[at : at + _HASH]: first + at // _HASH for at in range(0, len(group), _HASH)}


def _split(place: int, size: int, path: str) -> tuple[bytes, str]:
    width = group_of(size)
    if not 0 <= place * width < size:
        raise ValueError("a place outside the tree")
    length = min(width, size - place * width) * _HASH
    text_length = (length + 2) // 3 * 4
    return _decoded(path[:text_length], length), path[text_length:]


def climb(place: int, size: int, path: str) -> Iterator[tuple[bytes, int, int, str]]:
    """Nodes from a group up to the root, each with its place, its level's size and the rest of the path.

    `place`: of the group. `size`: rows of the whole tree. Raises ValueError when the path does not fit.
    """
    group, path = _split(place, size, path)
    width = group_of(size)
    node, size = _group(group), (size + width - 1) // width
    yield node, place, size, path
    while size > 1:
        if place ^ 1 < size:
            sibling, path = _decoded(path[:_TEXT], _HASH), path[_TEXT:]
            node = _node(sibling + node) if place & 1 else _node(node + sibling)
        place, size = place >> 1, (size + 1) >> 1
        yield node, place, size, path
    if path:
        raise ValueError("a path too long")


def _encoded(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _decoded(text: str, length: int) -> bytes:
    data = b64decode(text, validate=True)
    if len(data) != length or _encoded(data) != text:
        raise ValueError("a path too short, or in a second spelling")
    return data
