"""A refresh token is ``<family>.<256 bits>``, where the family's name has the form of a session's token. Its last part is used once.

What follows a token is computed from it and from bits that the server keeps. So a client whose reply was lost, and requests that
come at the same moment, get the same next token; Redis holds neither token, and cannot make one from the other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from secrets import token_hex
from typing import Final

from ..errors import RefreshTokenInvalid
from ..sessions.token import Token, handle_of

__all__ = ["RefreshToken", "RefreshTokens"]

_FORM: Final = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{64}\.[0-9a-f]{64}", re.ASCII)
_FAMILY: Final = 97  # characters


class RefreshToken:
    """One refresh token. Its text is a secret, and is shown nowhere."""

    __slots__ = ("digest", "family", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.family = Token(text[:_FAMILY])
        self.digest = hashlib.sha256(text.encode()).hexdigest()

    @property
    def handle(self) -> str:
        """What names the family to its user, and is of no use as a token."""
        return handle_of(self.family.digest)

    def __repr__(self) -> str:
        return f"<RefreshToken of login {self.handle[:8]}>"


class RefreshTokens:
    """Makes refresh tokens, and reads those that clients present.

    Args:
        secret: without it, what follows a token can be computed by whoever has that token and can read Redis.
    """

    def __init__(self, secret: str | bytes | None) -> None:
        self._secret = b"forebay refresh token" if secret is None else secret.encode() if isinstance(secret, str) else secret

    def first(self, family: Token) -> RefreshToken:
        """Return the first token of *family*."""
        return RefreshToken(f"{family.text}.{token_hex(32)}")

    def next(self, token: RefreshToken, nonce: str) -> RefreshToken:
        """Return what follows *token*."""
        last = hmac.digest(self._secret, f"{token.text}\0{nonce}".encode(), "sha256").hex()
        return RefreshToken(f"{token.family.text}.{last}")

    def read(self, text: object) -> RefreshToken:
        """Return the token that a client presents.

        Raises:
            RefreshTokenInvalid: it cannot be one. Nothing is asked of the server.
        """
        if not isinstance(text, str) or len(text) != 162 or _FORM.fullmatch(text) is None:
            raise RefreshTokenInvalid("there is no such refresh token")
        return RefreshToken(text)

    def __repr__(self) -> str:
        return "<RefreshTokens>"
