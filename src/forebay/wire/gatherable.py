"""A script that many callers may make one call of: it takes any number of keys, and answers each record of them by itself."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Gatherable", "bulk"]


class Gatherable:
    """A script that may be called so: ``Evalsha digest keys... words...``, with any number of records that have the words in common."""

    __slots__ = ("_head",)

    def __init__(self, name: str, digest: str) -> None:
        self._head = bulk(name.encode()) + bulk(digest.encode())

    def packed(self, keys: Sequence[bytes], key_count: int, words: bytes, word_count: int) -> bytes:
        """Return the command; *keys* and *words* are packed, and hold so many words each."""
        total = b"*%d\r\n" % (3 + key_count + word_count)
        return b"".join((total, self._head, bulk(b"%d" % key_count), *keys, words))


def bulk(text: bytes) -> bytes:
    """Return *text* as a word of a command."""
    return b"$%d\r\n%b\r\n" % (len(text), text)
