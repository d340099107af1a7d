"""A session in the hands of a request: whose it is, what it holds, and what every application needs of it."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from datetime import UTC, datetime
from secrets import token_urlsafe
from time import monotonic
from typing import Any, Final, TypeVar

import msgspec

from ..codecs.coding import Coding, coding_for
from ..durations import Duration, to_ms
from ..errors import DecodeError
from .items import Changes, Items, field_of
from .record import Device, Record
from .token import Token, handle_of

__all__ = ["CSRF", "PROVED", "Session", "moment"]

T = TypeVar("T")

CSRF: Final = "~csrf"
_FLASH: Final = "~flash"
PROVED: Final = "~proved"  # milliseconds after the session was begun


class Session(Items):
    """A user's or visitor's state between requests. Made by `AsyncSessions.create` and `load`; not for several threads at once.

    Items have text as names, and values of JSON's own types (with ``codec="msgpack"``: and bytes). Nothing is stored before `save`.
    """

    def __init__(
        self, token: Token, record: Record, room: str, coding: Coding[Any], report: Callable[[str, Exception], None], now: float
    ) -> None:
        super().__init__(token, record, room, coding, report, now)
        self.is_new = not record.version  #: whether this request made it
        self._loaded = now - monotonic() * 1000  # so that time goes on for who holds it for long

    def _now(self) -> float:
        """Return the server's clock, as far as this session knows it."""
        return max(self._loaded + monotonic() * 1000, self._record.seen)

    @property
    def unseen_for(self) -> float:
        """For how many milliseconds it has been neither saved nor touched."""
        return self._now() - self._record.seen

    # who

    @property
    def id(self) -> str:
        """The token: a secret between the client and you. Never log it."""
        return self._token.text

    @property
    def handle(self) -> str:
        """What names this session in `list_for`, and is of no use as an id."""
        return handle_of(self._token.digest)

    @property
    def user_id(self) -> str | None:
        """Whose it is, as text; None for a visitor's."""
        return self._record.user

    @property
    def device(self) -> Device:
        """From where it was begun."""
        return self._record.device

    @property
    def created_at(self) -> datetime:
        """When it was begun (UTC, on the server's clock)."""
        return moment(self._record.created)

    @property
    def last_seen(self) -> datetime:
        """When it was last saved or touched (UTC)."""
        return moment(self._record.seen)

    @property
    def expires_at(self) -> datetime:
        """When it ends, unless it is used before (UTC)."""
        return moment(self._record.expires)

    @property
    def ends_at(self) -> datetime:
        """When it ends at the latest, however much it is used (UTC)."""
        return moment(self._record.ends)

    @property
    def version(self) -> int:
        """How often it was saved, as it was read."""
        return self._record.version

    # what

    def get_as(self, name: str, type: type[T], default: Any = None) -> T:
        """Return the item *name* as *type*, a dataclass, Struct, TypedDict, datetime ...; *default* if there is none.

        It is built anew at each call, and changes in it are not noticed: assign it, with `put_as` for what is no JSON.

        Raises:
            DecodeError: it is something else.
        """
        missing = object()
        value = self.get(name, missing)
        if value is missing:
            return default  # type: ignore[no-any-return]
        coding: Coding[T] = coding_for(type)
        try:
            return coding.decode(msgspec.json.encode(value), name)
        except coding.failures as error:
            raise DecodeError(f"session item {name!r} is no {getattr(type, '__name__', type)}: {coding.explain(error)}") from error

    def put_as(self, name: str, value: Any, type: Any = None) -> None:
        """Store *value* of *type* (its own class by default) in the form in which `get_as` reads it.

        Raises:
            EncodeError: it would not come back as it is.
        """
        self[name] = msgspec.json.decode(coding_for(value.__class__ if type is None else type).encode(value, name))

    def put(self, name: str, value: Any, *, ttl: Duration | None = None) -> None:
        """Store *value* under *name*; with a *ttl* that item ends then, and at the latest with the session."""
        field = field_of(name)
        self._write(field, value)
        if ttl is not None:
            self._lives[field] = to_ms(ttl)

    # what every application needs

    def flash(self, message: Any, category: str = "info") -> None:
        """Leave *message* for the next page, which `flashes` takes."""
        self._write(_FLASH, [*self._own(_FLASH, []), [category, message]])

    def flashes(self) -> list[tuple[str, Any]]:
        """Return the (category, message) pairs that were left, oldest first, and remove them."""
        found = self._own(_FLASH, [])
        if found:
            self._drop(_FLASH)
        return [(category, message) for category, message in found]

    def authenticated(self) -> None:
        """Note that the user proved now who they are, by a password or more."""
        self._write(PROVED, max(0, round(self._now() - self._record.created)))

    def is_fresh(self, within: float) -> bool:
        """Whether the user proved who they are within so many seconds."""
        proved = self._own(PROVED, None)
        return isinstance(proved, int) and self._now() - self._record.created - proved <= within * 1000

    @property
    def remembered(self) -> bool:
        """Whether it was begun with ``remember_me=True``: it lives until its absolute end, used or not."""
        return self._record.ends - self._record.created <= self._record.idle and self._record.ends > 0

    @property
    def csrf_token(self) -> str:
        """A secret of this session for its forms; made, and to be saved, when it is first asked for."""
        token = self._own(CSRF, None)
        if not isinstance(token, str):
            token = token_urlsafe(32)
            self._write(CSRF, token)
        return token

    def check_csrf(self, presented: object) -> bool:
        """Whether *presented* is this session's `csrf_token`, in constant time. Never true before one was made."""
        token = self._own(CSRF, None)
        if not isinstance(token, str) or not isinstance(presented, str):
            return False
        return hmac.compare_digest(token.encode(), presented.encode(errors="replace"))

    def touched(self, now: int) -> None:
        """Take note that it lives on."""
        self._record.seen = now
        self._loaded = now - monotonic() * 1000

    def saved(self, changes: Changes, version: int, now: int) -> None:
        """Take note that *changes* are stored."""
        super().saved(changes, version, now)
        self._loaded = now - monotonic() * 1000

    @property
    def record(self) -> Record:
        """What was read."""
        return self._record

    @property
    def token(self) -> Token:
        """The token and its digest."""
        return self._token

    def _own(self, field: str, default: Any) -> Any:
        try:
            return self._read(field, field)
        except KeyError:
            return default

    def __repr__(self) -> str:
        whose = "a visitor" if self._record.user is None else f"user {self._record.user!r}"
        return f"<Session {self.handle[:8]} of {whose}, version {self._record.version}>"


def moment(milliseconds: float) -> datetime:
    """Return a time of the server's clock as UTC; what no calendar holds becomes its end."""
    return datetime.fromtimestamp(min(max(milliseconds, 0.0), 253402300799000.0) / 1000 if math.isfinite(milliseconds) else 0.0, UTC)
