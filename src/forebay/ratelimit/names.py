"""Who is limited never stands in a name: ``<prefix>limit:{<digest of the key>}:<policy>``. All limits of one key share a slot."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final
from uuid import UUID

from ..errors import InvalidKey
from ..keys import Key
from .scripts import Law

__all__ = ["LONGEST", "LimitNames", "text_of"]

_SUFFIX: Final[dict[Law, str]] = {"gcra": "", "fixed_window": ":fixed", "sliding_window": ":window", "sliding_log": ":log"}
_MOST_KNOWN: Final = 2000  # keys whose names are kept
LONGEST: Final = 256  # characters of a key that this process keeps; of a longer one it keeps the digest


def text_of(key: Key) -> str:
    """Return what *key* is known by in this process. ``42`` and ``"42"`` are the same key; any text will do, for it is hashed.

    Raises:
        InvalidKey: it is empty, or neither text, a whole number nor a UUID.
    """
    if isinstance(key, bool) or not isinstance(key, str | int | UUID):
        raise InvalidKey(f"a key is text, a whole number or a UUID, not {type(key).__name__}")
    text = str.__str__(key) if isinstance(key, str) else str(int(key)) if isinstance(key, int) else str(key)
    if not text:
        raise InvalidKey("a key must not be empty: it says who is limited; for one limit of all use a word, such as 'everybody'")
    return text if len(text) <= LONGEST else _digest(text, b"", 64) * 3  # which is longer than any key that is kept as it is


class LimitNames:
    """The names of one limiter's keys in Redis."""

    __slots__ = ("_form", "_head", "_known", "_policy", "_secret", "_state")

    def __init__(self, prefix: str, policy: str, law: Law, secret: bytes) -> None:
        self._head = f"{prefix}limit:{{"
        self._policy = f"}}:{policy}"
        self._state = self._policy + _SUFFIX[law]  # a law knows nothing of another's state
        self._secret = secret
        every = [name.encode() for name in self.of("x")]
        digest = _digest("x", secret, 16).encode()
        forms = (b"$%d\r\n%b\r\n" % (len(name), name.replace(b"%", b"%%").replace(digest, b"%b")) for name in every)
        self._form = b"".join(forms)
        self._known: dict[str, bytes] = {}  # one lookup is atomic, and what is lost is made again

    def of(self, text: str) -> tuple[str, str]:
        """Return the names of the state of a key, and of its own rates."""
        start = self._head + _digest(text, self._secret, 16)
        return start + self._state, f"{start}{self._policy}:rates"

    def packed(self, text: str) -> bytes:
        """Return both names of `of`, packed for a command."""
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            digest = _digest(text, self._secret, 16).encode()
            known = self._known[text] = self._form % (digest, digest)
        return known

    def slots_of(self, text: str) -> tuple[str, str]:
        """Return the names of a key's slots, and of what changes when one is given back."""
        start = f"{self._head}{_digest(text, self._secret, 16)}{self._policy}"
        return f"{start}:slots", f"{start}:turn"


def _digest(text: str, secret: bytes, size: int) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size, key=secret).hexdigest()
