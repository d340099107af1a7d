"""AES-256-GCM under the newest of several keys. What was sealed opens under the same Redis name and for the same purpose alone.

    four bytes that name the key (of a digest), 12 random bytes of nonce, the encrypted payload, 16 bytes of tag

Whoever can write to the server can still delete a value, or put back an older one of the same name: a seal has no memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import DecodeError, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Sealer", "new_sealing_key"]

_KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEAD: Final = _ID_BYTES + _NONCE_BYTES
_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{43}=?")


class Sealer:
    """Seals with the last of its keys and unseals with any of them. Threads share it; it holds nothing that changes.

    To change keys without losing what is stored: put the new key in front of the old one in every process (all can read it,
    nobody writes with it yet), then move it to the end, and drop the old one when what it sealed has expired. A key is good for
    four billion (2**32) values, the bound for random nonces of 96 bits.

    Args:
        keys: oldest to newest; each 32 bytes, or text from `new_sealing_key`.
        purpose: what the sealed bytes are for; a sealer with another purpose does not open them.

    Raises:
        SettingsError: ``cryptography`` is not installed, or a key is none. The message names its position alone.
    """

    kind: Final = "aes-256-gcm"

    def __init__(self, keys: Sequence[bytes | str], *, purpose: bytes) -> None:
        aesgcm = _aesgcm()
        self._purpose = len(purpose).to_bytes(4, "big") + purpose
        self._ciphers: dict[bytes, AESGCM] = {}
        for position, key in enumerate(keys):
            raw = _key(key, position)
            self._newest = hashlib.sha256(b"forebay sealing key id\x00" + raw).digest()[:_ID_BYTES]
            if self._newest in self._ciphers:
                raise SettingsError(f"seal_keys[{position}] is there twice: give each key once")
            self._ciphers[self._newest] = aesgcm(raw)
        if not self._ciphers:
            raise SettingsError("seal_keys= is empty: give at least one key from new_sealing_key()")
        from cryptography.exceptions import InvalidTag

        self._invalid: type[Exception] = InvalidTag

    def seal(self, data: bytes, name: str) -> bytes:
        """Return *data* encrypted, to be stored under the full Redis name *name*."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, data, self._bound(name))

    def unseal(self, sealed: bytes, name: str) -> bytes:
        """Return what was sealed under the same *name*.

        Raises:
            DecodeError: another key, another name, another purpose, or bytes that were changed.
        """
        if len(sealed) < _HEAD + _TAG_BYTES:
            raise DecodeError("too short to be a sealed value")
        cipher = self._ciphers.get(sealed[:_ID_BYTES])
        if cipher is None:
            raise DecodeError(f"sealed with the key {sealed[:_ID_BYTES].hex()}, which is not among seal_keys=")
        try:
            return cipher.decrypt(sealed[_ID_BYTES:_HEAD], sealed[_HEAD:], self._bound(name))
        except self._invalid:
            raise DecodeError("the seal is broken: the bytes were changed, or belong to another name or type") from None

    def _bound(self, name: str) -> bytes:
        return self._purpose + name.encode("utf-8", "surrogatepass")

    def __repr__(self) -> str:
        return f"Sealer(keys={len(self._ciphers)}, newest={self._newest.hex()})"


def new_sealing_key() -> str:
    """Return a new key for ``seal_keys=``: 32 random bytes, as URL-safe base64. Keep it where passwords are kept."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def _key(key: object, position: int) -> bytes:
    """The key's 32 bytes. No message shows any of them, nor is the cause attached."""
    if isinstance(key, bytes) and len(key) == _KEY_BYTES:
        return key
    if isinstance(key, str) and _TEXT.fullmatch(key.strip()):
        text = key.strip().rstrip("=")
        try:
            raw = base64.b64decode(text + "=", altchars=b"-_", validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) == _KEY_BYTES:
            return raw
    size = f"a {type(key).__name__} of length {len(key)}" if isinstance(key, bytes | str) else f"a {type(key).__name__}"
    raise SettingsError(
        f"seal_keys[{position}] is {size}, not a key: give {_KEY_BYTES} bytes, or their URL-safe base64 as text, from new_sealing_key()"
    )


def _aesgcm() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise SettingsError("seal_keys= needs cryptography, which is not installed: pip install 'forebay[crypto]'") from None
    return AESGCM
