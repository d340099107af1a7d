"""The items of a session: a mapping that knows what was changed, also inside lists and dicts. Nothing here talks to the server.

What was looked at is compared, at the end, with what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, MutableMapping
from typing import Any, Final

import msgspec

from ..codecs.coding import Coding
from ..errors import EncodeError, InvalidKey
from .record import Record
from .token import Token, base_of

__all__ = ["Changes", "Items", "field_of"]

_SIMPLE: Final = frozenset({str, int, float, bool, type(None), bytes})
_LONGEST: Final = 256  # bytes of an item's name


class Changes(msgspec.Struct):
    """What a commit sends: fields with their new bytes, fields to remove, and when fields end ("+ms" from then, or a time).

    *sent* has the values that were put, and what stands for each as it was: they may change before the answer is there.
    """

    put: dict[str, bytes]
    removed: list[str]
    ends: dict[str, str]
    sent: dict[str, tuple[Any, Any]]

    def __bool__(self) -> bool:
        return bool(self.put or self.removed or self.ends)


class Items(MutableMapping[str, Any]):
    """What a session holds, over what was read of it."""

    def __init__(
        self,
        token: Token,
        record: Record,
        room: str,
        coding: Coding[Any],
        report: Callable[[str, Exception], None],
        now: float,
    ) -> None:
        self._token = token
        self._record = record
        self._room = room
        self._coding = coding
        self._report = report
        self._values: dict[str, Any] = {}
        self._seen_as: dict[str, Any] = {}
        self._assigned: Collection[str] = ()  # sets once there is something in them: most requests change nothing
        self._removed: Collection[str] = ()
        self._lives: dict[str, int] = {}
        self._accessed = False
        # where the server has no lifetimes of fields, what ended is still there: it goes with the next commit
        lives = record.lives
        self._ended = [f for f, ends in lives.items() if ends <= now and record.items.pop(f, None) is not None] if lives else []

    @property
    def _key(self) -> str:
        return base_of(self._room, self._token.tag) + self._token.digest

    @property
    def accessed(self) -> bool:
        """Whether anything in it was looked at or changed."""
        return self._accessed

    @property
    def modified(self) -> bool:
        """Whether a `save` would store something."""
        if self._assigned or self._removed:
            return True
        for field, value in self._values.items():  # noqa: SIM110 - asked twice for each request, and a loop is quicker
            if type(value) not in _SIMPLE and _mark(value) != self._seen_as[field]:
                return True
        return False

    def __getitem__(self, name: str) -> Any:
        return self._read(field_of(name), name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._write(field_of(name), value)

    def __delitem__(self, name: str) -> None:
        field = field_of(name)
        self._read(field, name)
        self._drop(field)

    def __contains__(self, name: object) -> bool:
        self._accessed = True
        return isinstance(name, str) and self._is_readable("=" + name)

    def __iter__(self) -> Iterator[str]:
        self._accessed = True
        return iter([field[1:] for field in self._fields() if field[0] == "=" and self._is_readable(field)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Remove every item."""
        for name in list(self):
            self._drop("=" + name)

    # for those who store it

    def changes(self) -> Changes:
        """Return what differs from what was read.

        Raises:
            EncodeError: an item cannot be stored; the message names it.
        """
        changes, key = Changes({}, sorted(set(self._removed) - self._values.keys()), {}, {}), self._key
        for field, value in self._values.items():
            if field in self._assigned or (type(value) not in _SIMPLE and _mark(value) != self._seen_as[field]):
                self._put(changes, key, field, value)
                changes.sent[field] = value, _mark(value)
        if changes:
            changes.removed += [field for field in self._ended if field not in changes.put]
        return changes

    def everything(self, token: Token) -> Changes:
        """Return all items as they are now, encoded for another *token*."""
        key = base_of(self._room, token.tag) + token.digest
        changes = Changes({}, [], {}, {})
        for field in self._fields():
            try:
                value = self._read(field, field[1:])
            except KeyError:  # it could not be read, which is reported
                continue
            self._put(changes, key, field, value)
        return changes

    def saved(self, changes: Changes, version: int, now: int) -> None:
        """Take note that *changes* are stored. What was changed since they were collected goes with the next."""
        record, sent = self._record, changes.sent
        for field, data in changes.put.items():
            record.items[field] = data
            record.lives.pop(field, None)
        for field, ends in changes.ends.items():
            record.lives[field] = now + int(ends) if ends[0] == "+" else int(ends)
        for field in changes.removed:
            record.items.pop(field, None)
            record.lives.pop(field, None)
        self._seen_as.update((field, mark) for field, (_, mark) in sent.items())
        self._assigned = {field for field in self._assigned if not self._is_as_sent(field, changes)}
        self._removed = {*self._removed, *sent} - {*changes.removed, *self._values}
        self._lives = {field: left for field, left in self._lives.items() if field in self._assigned}
        self._ended.clear()
        record.version, record.seen = version, now

    def _is_as_sent(self, field: str, changes: Changes) -> bool:
        """Whether the value that was assigned, and its lifetime, are those that were sent. What changed inside it shows by its mark."""
        left = f"+{self._lives[field]}" if field in self._lives else None
        return field in changes.sent and changes.sent[field][0] is self._values[field] and changes.ends.get(field) == left

    def _fields(self) -> list[str]:
        kept = [field for field in self._record.items if field not in self._removed or field in self._values]
        return kept + [field for field in self._values if field not in self._record.items]

    def _put(self, changes: Changes, key: str, field: str, value: Any) -> None:
        try:
            changes.put[field] = self._coding.encode(value, f"{key}:{field}")
        except EncodeError as error:
            text = str(error).replace(key.removeprefix(self._room), "...")  # a digest is told to nobody, nor by what led to it
            raise EncodeError(f"session item {field[1:]!r}: {text}") from None
        if field in self._lives:
            changes.ends[field] = f"+{self._lives[field]}"
        elif field in self._record.lives and field not in self._assigned:  # changed inside: it ends when it would have
            changes.ends[field] = str(self._record.lives[field])

    def _read(self, field: str, name: str) -> Any:
        self._accessed = True
        if field in self._values:
            return self._values[field]
        data = self._record.items.get(field)
        if data is None or field in self._removed:
            raise KeyError(name)
        try:
            value = self._coding.decode(data, f"{self._key}:{field}")
        except self._coding.failures as error:
            self._report(name, error)
            del self._record.items[field]  # from now on there is none
            raise KeyError(name) from error
        self._values[field] = value
        self._seen_as[field] = _mark(value)
        return value

    def _is_readable(self, field: str) -> bool:
        try:
            self._read(field, field[1:])
        except KeyError:
            return False
        return True

    def _write(self, field: str, value: Any) -> None:
        self._accessed = True
        self._values[field] = value
        self._assigned = {*self._assigned, field}
        self._lives.pop(field, None)  # a new value has no lifetime but the one that it is given

    def _drop(self, field: str) -> None:
        self._accessed = True
        self._values.pop(field, None)
        self._assigned = {*self._assigned} - {field}
        self._lives.pop(field, None)
        if field in self._record.items:
            self._removed = {*self._removed, field}


def _mark(value: Any) -> Any:
    """Return what stands for *value* as it is now; what cannot be stored, and will be refused, is like nothing."""
    if type(value) in _SIMPLE:
        return value
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return object()


def field_of(name: object) -> str:
    """Return the field of an item.

    Raises:
        InvalidKey: its name cannot be used.
    """
    if not isinstance(name, str):
        raise InvalidKey(f"a session item has text as its name, not {type(name).__name__}")
    if not name or not name.isprintable() or len(name.encode()) > _LONGEST:
        raise InvalidKey(f"session item {name[:40]!r}: a name is 1 to {_LONGEST} bytes of printable text")
    return "=" + name
