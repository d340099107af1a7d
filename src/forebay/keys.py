"""A key's name in Redis is ``<prefix><namespace>:<key>``, and nothing that a caller passes can leave its namespace."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Final
from uuid import UUID

from .errors import InvalidKey, InvalidNamespace

__all__ = ["MAX_KEY_BYTES", "Key", "Namespace", "check_prefix"]

Key = str | int | UUID
"""What names an entry. ``42`` and ``"42"`` are the same key."""

MAX_KEY_BYTES: Final = 1024
RESERVED: Final = frozenset({"session", "token", "limit", "lock"})

_NAMESPACE: Final = r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)*"
_GLOB_SPECIAL: Final = r"([*?\[\]\\])"
_FAST_LENGTH: Final = MAX_KEY_BYTES // 4  # no character takes more than four bytes in UTF-8
_TEXTS: Final = {str}
_NUMBERS: Final = {int}


def check_prefix(prefix: str) -> str:
    """Return *prefix* if it can stand before every key of a bay; an empty one is fine.

    Raises:
        InvalidNamespace: it holds spaces, control characters, or ``{ }`` (which would pin every key to one cluster slot).
    """
    if not isinstance(prefix, str):
        raise InvalidNamespace(f"prefix must be text, not {type(prefix).__name__}")
    if len(prefix) > 128 or any(c in "{}" or c.isspace() or not c.isprintable() for c in prefix):
        raise InvalidNamespace(
            f"prefix {prefix[:40]!r} cannot be used: at most 128 characters, without spaces, control characters, '{{' or '}}'"
        )
    return prefix


class Namespace:
    """The keys of one cache: turns callers' keys into names in Redis, and patterns into ``SCAN`` patterns."""

    __slots__ = ("head", "label", "prefix")

    def __init__(self, prefix: str, label: str, *, own: bool = False) -> None:
        """Raise `InvalidNamespace` if *label* is malformed, or reserved and not Forebay's *own*."""
        if not isinstance(label, str) or not re.fullmatch(_NAMESPACE, label) or len(label) > 128:
            raise InvalidNamespace(
                f"namespace {label!r} cannot be used: letters, digits, '_', '-' and '.', in parts joined by ':', at most 128"
            )
        if not own and label.partition(":")[0] in RESERVED:
            raise InvalidNamespace(
                f"namespace {label!r} is reserved: 'session', 'token', 'limit' and 'lock' hold Forebay's own keys; choose another name"
            )
        self.label = label
        self.prefix = prefix
        self.head = f"{check_prefix(prefix)}{label}:"

    def name(self, key: Key) -> str:
        """Return the name of *key* in Redis.

        A leading ``#`` is doubled, because names that begin with a single one belong to Forebay (tags, versions).

        Raises:
            InvalidKey: empty, over 1024 bytes of UTF-8, with control characters, or not ``str | int | UUID``.
        """
        kind = type(key)
        if kind is int:
            return f"{self.head}{key}"
        if kind is str and 0 < len(key) <= _FAST_LENGTH and key.isprintable() and key[0] != "#":  # type: ignore[arg-type,union-attr,index]
            return self.head + key  # type: ignore[operator]
        return self.head + _checked(key)

    def names(self, keys: Collection[Key]) -> list[str]:
        """Return `name` of each of *keys*. Many of one kind are looked at together: what none of them holds, each may do without.

        Raises:
            InvalidKey: as for `name`.
        """
        kinds = set(map(type, keys))
        head = self.head
        if kinds == _TEXTS:
            text, lengths = "".join(keys), set(map(len, keys))  # type: ignore[arg-type]
            if "#" not in text and text.isprintable() and 0 not in lengths and max(lengths) <= _FAST_LENGTH:
                return [head + key for key in keys]  # type: ignore[operator]
        elif kinds == _NUMBERS:
            return [f"{head}{key}" for key in keys]
        return list(map(self.name, keys))

    def tag(self, tag: str) -> str:
        """Return the name, without the bay's prefix, of the version of *tag*.

        Raises:
            InvalidKey: as for `name`.
        """
        if not isinstance(tag, str):
            raise InvalidKey(f"a tag is text, such as 'team:7', not {type(tag).__name__}")
        return f"{self.label}:#tag:{_checked(tag)}"

    @property
    def clock(self) -> str:
        """The name, without the bay's prefix, of what changes with every tag."""
        return f"{self.label}:#clock"

    @property
    def versions(self) -> tuple[str, ...]:
        """The names, without the bay's prefix, of the versions of this namespace and of those that it is nested in, outermost first."""
        parts = self.label.split(":")
        return tuple(f"{':'.join(parts[: count + 1])}:#version" for count in range(len(parts)))

    def key_in(self, name: str) -> str | None:
        """Return the key that *name* in Redis stands for; None if it is none of this namespace, or Forebay's own."""
        key = name.removeprefix(self.head)
        if key == name or not key:
            return None
        if key[0] != "#":
            return key
        return key[1:] if key.startswith("##") else None

    def is_version(self, name: str) -> bool:
        """Whether *name* in Redis is the version of a tag, or of this namespace or one around it."""
        own = name.removeprefix(self.head)
        return own.startswith("#tag:") or own == "#version" or name.removeprefix(self.prefix) in self.versions

    def pattern(self, glob: str) -> str:
        """Return the ``MATCH`` pattern for *glob* (``*``, ``?``, ``[...]``) within this namespace alone.

        Raises:
            InvalidKey: the pattern is empty or not text.
        """
        if not isinstance(glob, str) or not glob:
            raise InvalidKey("a pattern is text such as '42:*'; to remove everything in the namespace use clear()")
        return self._head_pattern() + ("#" + glob if glob[0] == "#" else glob)

    def everything(self) -> str:
        """Return the ``MATCH`` pattern of all names in this namespace, Forebay's own among them."""
        return self._head_pattern() + "*"

    def _head_pattern(self) -> str:
        return re.sub(_GLOB_SPECIAL, r"\\\1", self.head)

    def __repr__(self) -> str:
        return f"Namespace({self.head!r})"


def _checked(key: object) -> str:
    text = _text_of(key)
    if not text:
        raise InvalidKey("a key must not be empty")
    shown = text if len(text) <= 60 else text[:57] + "..."
    for index, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidKey(f"key {shown!r} holds {character!r} at position {index}: control characters and lone surrogates are refused")
    size = len(text.encode())
    if size > MAX_KEY_BYTES:
        raise InvalidKey(f"key {shown!r} takes {size} bytes, the limit is {MAX_KEY_BYTES}: use a digest of it as the key")
    return "#" + text if text[0] == "#" else text


def _text_of(key: object) -> str:
    if isinstance(key, bool):
        raise InvalidKey(f"key {key!r} is a bool: use text, a whole number or a UUID")
    if isinstance(key, int):
        return str(int(key))
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, UUID):
        return str(key)
    raise InvalidKey(f"a key is text, a whole number or a UUID, not {type(key).__name__}")
