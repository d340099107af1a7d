"""A session's token is ``<user tag>.<256 random bits>``. Only its holder has it: Redis knows its SHA-256, with which nobody can log in.

The tag is a digest of the user's id (of nothing, for a visitor), so that all that belongs to one user stands in one slot of a
cluster, where one script can decide about it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from secrets import token_hex
from typing import Final

from ..errors import InvalidKey, SessionNotFound, SettingsError

__all__ = ["Keys", "Token", "Tokens", "base_of", "handle_of", "user_text"]

_FORM: Final = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{64}", re.ASCII)
_LONGEST_USER: Final = 512  # bytes


class Token:
    """A token, and what follows from it. Its text is a secret, and is shown nowhere."""

    __slots__ = ("digest", "tag", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.tag = text[:32]
        self.digest = hashlib.sha256(text.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<Token of session {handle_of(self.digest)[:8]}>"


class Keys:
    """The names in Redis of what belongs to one tag in a *room*, ``<prefix>session:``."""

    __slots__ = ("base", "epoch", "index")

    def __init__(self, room: str, tag: str) -> None:
        self.base = base_of(room, tag)
        self.index = self.base + "index"
        self.epoch = self.base + "epoch"

    def of(self, digest: str) -> list[str]:
        """Return the names of a session, of the user's index, and of the epoch."""
        return [self.base + digest, self.index, self.epoch]


class Tokens:
    """Makes tokens, and reads those that clients present.

    Args:
        secret: makes the tags of users unguessable for whoever can read Redis and knows a user's id; the same in all processes.
    """

    def __init__(self, secret: str | bytes | None) -> None:
        if secret is not None and (not isinstance(secret, str | bytes) or len(secret) < 16):
            raise SettingsError("secret= is text or bytes, at least 16 of them: take secrets.token_hex(), and keep it")
        self._secret = b"" if secret is None else secret.encode() if isinstance(secret, str) else secret

    def new(self, user: str | None) -> Token:
        """Return a new token, for *user* or for a visitor."""
        return Token(f"{token_hex(16) if user is None else self.tag(user)}.{token_hex(32)}")

    def tag(self, user: str) -> str:
        """Return the tag of *user*."""
        return hmac.digest(self._secret or b"forebay", b"session user\0" + user.encode(), "sha256").hex()[:32]

    def read(self, text: object) -> Token:
        """Return the token that a client presents.

        Raises:
            SessionNotFound: it cannot be one. Nothing is asked of the server.
        """
        if not isinstance(text, str) or len(text) != 97 or _FORM.fullmatch(text) is None:
            raise SessionNotFound
        return Token(text)

    def __repr__(self) -> str:
        return f"<Tokens {'with' if self._secret else 'without'} a secret>"


def base_of(room: str, tag: str) -> str:
    """Return how the names of all begin that belongs to *tag* in a *room*."""
    return f"{room}{{{tag}}}:"


def user_text(user_id: str | int) -> str:
    """Return a user's id as it is kept.

    Raises:
        InvalidKey: it is neither text nor a whole number, or empty, or too long.
    """
    if isinstance(user_id, bool) or not isinstance(user_id, str | int):
        raise InvalidKey(f"a user id is text or a whole number, not {type(user_id).__name__}")
    text = str(user_id)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidKey("a user id must not hold lone surrogates") from None
    if not 0 < size <= _LONGEST_USER or not text.isprintable():
        raise InvalidKey(f"a user id has 1 to {_LONGEST_USER} bytes of printable text; this one has {size} bytes")
    return text


def handle_of(digest: str) -> str:
    """Return what names a session to its user, for a page of devices: neither token nor digest, and of no use as either."""
    return hashlib.sha256(b"forebay session handle\0" + digest.encode()).hexdigest()[:32]
