"""Passwords are kept as argon2id hashes, made and checked on threads. Whether a user exists cannot be told from how long a check takes."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["Passwords"]

_AT_ONCE: Final = 2  # each takes 64 MiB and as much of a core as it gets


class Passwords:
    """Hashes with the parameters of RFC 9106's second choice, which are those of argon2-cffi."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._nobodys: str | None = None

    async def start(self, example: str) -> str:
        """Return what is stored of a password that is no secret. It also stands in for those who have none: see `check`."""
        self._nobodys = await asyncio.to_thread(_hashed, example)
        return self._nobodys

    async def hash(self, password: str) -> str:
        """Return what is stored of *password*."""
        async with self._room:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def check(self, stored: str | None, password: str) -> bool:
        """Whether *password* is the one of which *stored* is kept; None never is, and takes as long."""
        assert self._nobodys is not None, "start() comes first"  # noqa: S101 - made late, it would make the first check longer
        compared = self._nobodys if stored is None else stored
        async with self._room:
            return await asyncio.to_thread(self._verified, compared, password) and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether *stored* was made with parameters of another time."""
        return self._hasher.check_needs_rehash(stored)

    def _verified(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


@cache
def _hashed(example: str) -> str:
    return PasswordHasher().hash(example)
