"""Keys and trust: Ed25519 pairs, the keyring that the root key signed, and checks of a row's signature."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from struct import error as StructError

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bus import tree
from bus.errors import MissingKey, Untrusted
from schemas.envelope import Message

#: A row signed by itself: `ed25519:<signature>`, base64.
PREFIX = "ed25519:"
#: Rows of one commit signed together: `ed25519-tree:<group>:<rows>:<signature of the root>:<path>`, see bus/tree.py.
TREE = "ed25519-tree:"
#: What the signature of bytes that are no row covers, before them.
_STATEMENT = b"tailrace.statement\x00"
#: What the signature of a tree covers, before the number of its rows and the root.
_ROOT = b"tailrace.tree\x00"
#: Rows of a tree at most.
_ROWS = 1 << 32
#: Groups of trees whose check is remembered.
_GROUPS_KEPT = 5_000
#: Nodes of trees whose check is remembered.
_NODES_KEPT = 200_000


@dataclass(frozen=True)
class TrustedKey:
    """A public key and whom it speaks for: `user:NAME`s or agents' names. Times are UTC microseconds."""

    key_id: str
    public: str
    subjects: tuple[str, ...]
    valid_from: int
    valid_until: int | None = None


class Keyring:
    """The keys that are trusted, because the root key signed the file they stand in."""

    def __init__(self, keys: Sequence[TrustedKey], root: str = "") -> None:
        self.keys = {key.key_id: key for key in keys}
        #: The public root key, as text, that signed the file these were read from.
        self.root = root
        #: Texts of the signature column that were checked: what rows they hold for.
        self._groups: dict[tuple[str, str], frozenset[bytes]] = {}
        self._nodes: dict[bytes, tuple[str, str, int, int, int, str]] = {}
        self._public = {k.key_id: Ed25519PublicKey.from_public_bytes(base64.b64decode(k.public)) for k in keys}

    @classmethod
    def load(cls, folder: Path) -> Keyring:
        """Read `keyring.json` and check it against `root.pub`. Raises Untrusted or MissingKey."""
        try:
            text, public = (folder / "keyring.json").read_text(), (folder / "root.pub").read_text()
        except FileNotFoundError as error:
            raise MissingKey(f"no keyring in {folder}: run `tailrace init`") from error
        try:
            document = json.loads(text)
            root = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
            root.verify(base64.b64decode(document["signature"]), document["keys"].encode())
        except (InvalidSignature, KeyError, ValueError, TypeError, AttributeError) as error:
            raise Untrusted(
                "keys.keyring",
                f"{folder}/keyring.json was not signed by the root key; restore it, or run `tailrace init` anew",
            ) from error
        keys = [TrustedKey(**{**one, "subjects": tuple(one["subjects"])}) for one in json.loads(document["keys"])]
        return cls(keys, public.strip())

    def subjects(self) -> set[str]:
        """Everybody a key speaks for."""
        return {subject for key in self.keys.values() for subject in key.subjects}

    def accepts(self, message: Message, table_id: str, environment: str) -> bool:
        """Whether `check` would pass."""
        try:
            self.check(message, table_id, environment)
        except Untrusted:
            return False
        return True

    def check(self, message: Message, table_id: str, environment: str) -> TrustedKey:
        """The key that signed this row, for this sender, at its time. Raises Untrusted naming the rule."""
        if not message.key_id or not message.signature:
            raise Untrusted("signature.missing", f"the row from {message.from_agent} is not signed")
        key = self.keys.get(message.key_id)
        if key is None:
            raise Untrusted("signature.unknown_key", f"key {message.key_id} is not in the keyring")
        if message.from_agent not in key.subjects:
            raise Untrusted("signature.sender", f"key {message.key_id} does not speak for {message.from_agent}")
        if message.timestamp < key.valid_from or (key.valid_until is not None and message.timestamp > key.valid_until):
            raise Untrusted("signature.validity", f"key {message.key_id} was not valid at the time of the row")
        try:
            data = message.signed_bytes(table_id, environment, key.key_id)
            if message.signature.startswith(TREE):
                self._check_tree(key.key_id, data, message.signature)
            elif message.signature.startswith(PREFIX):
                self._public[key.key_id].verify(_bytes(message.signature[len(PREFIX) :]), data)
            else:
                raise Untrusted("signature.format", "the signature has an unknown form")
        except (InvalidSignature, ValueError, StructError) as error:
            raise Untrusted(
                "signature.invalid", f"the row from {message.from_agent} was altered, or signed elsewhere"
            ) from error
        return key

    def vouches(self, key_id: str, subject: str, data: bytes, signature: str) -> bool:
        """Whether this key of this subject signed these bytes, which are no row."""
        key = self.keys.get(key_id)
        if key is None or subject not in key.subjects:
            return False
        try:
            self._public[key_id].verify(_bytes(signature), _STATEMENT + data)
        except (InvalidSignature, ValueError):
            return False
        return True

    def _check_tree(self, key_id: str, data: bytes, text: str) -> None:
        """Whether the row is in the group that this text leads from to the root which was signed."""
        known = self._groups.get((key_id, text))
        if known is None:
            known = self._climbed(key_id, text[len(TREE) :])
            if len(self._groups) > _GROUPS_KEPT:
                self._groups.clear()
            self._groups[key_id, text] = known
        if tree.leaf(data) not in known:
            raise ValueError("another row")

    def _climbed(self, key_id: str, form: str) -> frozenset[bytes]:
        """The leaves of a group, once its way led to the signed root, or to a node that the same way led on from before."""
        place_text, size_text, signature, path = form.split(":")
        place, size = int(place_text), int(size_text)
        if f"{place}:{size}" != f"{place_text}:{size_text}":
            raise ValueError("numbers in a second spelling")
        if size > _ROWS:
            raise ValueError("more rows than a commit can have")
        climbed: list[tuple[bytes, tuple[str, str, int, int, int, str]]] = []
        for node, at, of, rest in tree.climb(place, size, path):
            way = (key_id, signature, size, at, of, rest)
            if self._nodes.get(node) == way:
                break
            climbed.append((node, way))
        else:
            self._public[key_id].verify(_bytes(signature), _rooted(size, climbed[-1][0]))
        if len(self._nodes) > _NODES_KEPT:
            self._nodes.clear()
        self._nodes.update(climbed)
        return tree.leaves(place, size, path)


class Signer:
    """Private keys of one process, by the sender they speak for."""

    def __init__(self, table_id: str, environment: str, keys: dict[str, tuple[str, Ed25519PrivateKey]]) -> None:
        self.table_id = table_id
        self.environment = environment
        self._keys = keys

    @classmethod
    def load(cls, folder: Path, subjects: Sequence[str], table_id: str, environment: str) -> Signer:
        """Read the private keys for `subjects`. Raises MissingKey for one that cannot be read."""
        keyring = Keyring.load(folder)
        keys: dict[str, tuple[str, Ed25519PrivateKey]] = {}
        for subject in subjects:
            key = next((k for k in reversed(keyring.keys.values()) if subject in k.subjects), None)
            if key is None:
                raise MissingKey(f"no key speaks for {subject}: known are {', '.join(sorted(keyring.subjects()))}")
            keys[subject] = (key.key_id, _read_private(folder / "private" / f"{key.key_id}.pem", subject))
        return cls(table_id, environment, keys)

    def sign_bytes(self, subject: str, data: bytes) -> str:
        """Bytes that are no row. Raises MissingKey."""
        return _text(self._key(subject)[1].sign(_STATEMENT + data))

    def key_id(self, sender: str) -> str:
        """Raises MissingKey when this process must not speak for the sender."""
        return self._key(sender)[0]

    def _key(self, sender: str) -> tuple[str, Ed25519PrivateKey]:
        try:
            return self._keys[sender]
        except KeyError:
            raise MissingKey(f"this process holds no key for {sender}") from None

    def sign(self, message: Message) -> Message:
        """The row with key_id and signature. Raises MissingKey."""
        return self.sign_all([message])[0]

    def sign_all(self, messages: Sequence[Message]) -> list[Message]:
        """Rows of one commit, with one signature for each key. Raises MissingKey."""
        signs = self.signs(messages)
        return [m.with_fields(key_id=key_id, signature=text) for m, (key_id, text) in zip(messages, signs, strict=True)]

    def signs(self, messages: Sequence[Message]) -> list[tuple[str, str]]:
        """The same without the rows: key_id and signature of each. Raises MissingKey."""
        found = [("", "")] * len(messages)
        senders = [message.from_agent for message in messages]
        of_key: dict[str, list[str]] = {}
        for sender in dict.fromkeys(senders):
            of_key.setdefault(self._key(sender)[0], []).append(sender)
        for key_id, theirs in of_key.items():
            places = [place for place, sender in enumerate(senders) if sender in theirs]
            data = [messages[p].signed_bytes(self.table_id, self.environment, key_id) for p in places]
            for place, signature in zip(places, self.signatures(theirs[0], data), strict=True):
                found[place] = (key_id, signature)
        return found

    def signatures(self, sender: str, data: Sequence[bytes]) -> list[str]:
        """The signature column for rows with these signed bytes, all by the key of this sender."""
        if len(data) == 1:
            return [PREFIX + _text(self._key(sender)[1].sign(data[0]))]
        texts, width = self.group_signatures(sender, data)
        return [texts[place // width] for place in range(len(data))]

    def group_signatures(self, sender: str, data: Sequence[bytes]) -> tuple[list[str], int]:
        """The same, each text once: it is that of so many rows one after the other."""
        grown = tree.Tree(data)
        signature = _text(self._key(sender)[1].sign(_rooted(len(data), grown.root)))
        end = f":{len(data)}:{signature}:"
        return [f"{TREE}{place}{end}{path}" for place, path in enumerate(grown.paths())], tree.group_of(len(data))


class KeyWitness:
    """Vouches for bytes that are not rows, in one subject's name, and checks that it was this subject who vouched."""

    def __init__(self, keyring: Keyring, subject: str, place: tuple[str, str], signer: Signer | None = None) -> None:
        """`place` is (table id, environment)."""
        self._keyring = keyring
        self._subject = subject
        self._place = "\x00".join(place).encode() + b"\x00"
        self._signer = signer

    def sign(self, data: bytes) -> str:
        """Raises MissingKey."""
        if self._signer is None:
            raise MissingKey(f"this process holds no key for {self._subject}")
        return f"{self._signer.key_id(self._subject)}:{self._signer.sign_bytes(self._subject, self._place + data)}"

    def holds(self, data: bytes, signature: str) -> bool:
        key_id, _, signed = signature.rpartition(":")
        return self._keyring.vouches(key_id, self._subject, self._place + data, signed)


def _rooted(size: int, root: bytes) -> bytes:
    return _ROOT + size.to_bytes(8, "big") + root


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _read_private(path: Path, subject: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise MissingKey(f"the private key of {subject} cannot be read ({error.strerror}): {path}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise MissingKey(f"the private key of {subject} is not Ed25519: {path}")
    return key


def create_keys(folder: Path, holders: dict[str, Sequence[str]], now: int) -> None:
    """Make the root key, one pair a holder (key id -> subjects), and the signed keyring. What exists is kept.

    Called again with new holders it adds their keys, which needs the root's private key. Raises MissingKey or Untrusted.
    """
    private = folder / "private"
    if (folder / "keyring.json").exists():
        known = [asdict(key) for key in Keyring.load(folder).keys.values()]
        missing = {
            key_id: subjects for key_id, subjects in holders.items() if key_id not in {k["key_id"] for k in known}
        }
        if not missing:
            return
        root = _read_private(private / "root.pem", "the root")
    else:
        private.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        known, missing = [], dict(holders)
        root = Ed25519PrivateKey.generate()
        _write_private(private / "root.pem", root)
        (folder / "root.pub").write_text(_public_text(root))
    for key_id, subjects in missing.items():
        pair = Ed25519PrivateKey.generate()
        _write_private(private / f"{key_id}.pem", pair)
        key = TrustedKey(key_id, _public_text(pair), tuple(subjects), valid_from=now)
        known.append(asdict(key))
    text = json.dumps(known)
    signature = base64.b64encode(root.sign(text.encode())).decode()
    scratch = folder / "keyring.json.new"
    scratch.write_text(json.dumps({"keys": text, "signature": signature}, indent=2))
    os.replace(scratch, folder / "keyring.json")


def _write_private(path: Path, key: Ed25519PrivateKey) -> None:
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _public_text(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()
