"""A server's URL, taken apart. Errors name their source and show the URL without its secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from .errors import SettingsError
from .readers import TUNING, read_db, read_port

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["FORMS", "Topology", "Url"]

Topology = Literal["standalone", "sentinel", "cluster", "embedded"]

_SCHEMES: Final[dict[str, tuple[Topology, bool]]] = {
    "redis": ("standalone", False),
    "rediss": ("standalone", True),
    "unix": ("standalone", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "embedded": ("embedded", False),
}
FORMS: Final = (
    "redis://host:6379/0, rediss://host:6380/0, unix:///run/redis.sock, "
    "redis+sentinel://h1:26379,h2:26379/service/0, redis+cluster://h1:6379,h2:6379 or embedded://"
)

_V = TypeVar("_V")


class Url:
    """One URL on its way to settings; errors name *source* and show the URL without its secrets."""

    def __init__(self, url: str, source: str) -> None:
        self._url = url
        self._source = source

    def read(self) -> tuple[dict[str, object], dict[str, str]]:
        """Return where the server is, as fields of settings, and the query's options, still as text."""
        from urllib.parse import unquote, urlsplit

        try:
            parts = urlsplit(self._url.strip())
        except ValueError:
            raise self._error(f"is not a URL; write {FORMS}") from None
        if parts.scheme not in _SCHEMES or "://" not in self._url:
            raise self._error(f"has no known scheme; write {FORMS}")
        topology, tls = _SCHEMES[parts.scheme]
        if parts.fragment:
            raise self._error("has a '#' part: escape '#' in a password as %23")
        query = self._query(parts)
        where: dict[str, object] = {"topology": topology, "tls": tls}
        userinfo, _, location = parts.netloc.rpartition("@")
        username, _, password = userinfo.partition(":")
        where["username"] = unquote(username) or None
        where["password"] = unquote(password) or None
        if topology == "embedded":
            if parts.netloc or parts.path.strip("/"):
                raise self._error("names a host or path, and embedded:// starts a private server of its own; leave them out")
        elif parts.scheme == "unix":
            if location or not parts.path.strip("/"):
                raise self._error("must name a socket's path, as in unix:///run/redis.sock")
            where["path"] = unquote(parts.path)
            where["db"] = self._value("database", query.pop("db", "0"), read_db)
        else:
            where["hosts"] = self._hosts(location, 26379 if topology == "sentinel" else 6379)
            where.update(self._path(parts, topology))
        unknown = sorted(set(query) - set(TUNING))
        if unknown:
            raise self._error(f"has an unknown option {unknown[0]!r}; known are {', '.join(TUNING)}")
        return where, query

    def _query(self, parts: SplitResult) -> dict[str, str]:
        from urllib.parse import parse_qsl

        try:
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise self._error("has a query that is not name=value pairs joined by '&'") from None
        return dict(pairs)

    def _hosts(self, location: str, default_port: int) -> tuple[tuple[str, int], ...]:
        hosts = []
        for item in location.split(","):
            match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/\s]+)(?::([^:]*))?", item)
            if match is None:
                raise self._error("has no readable host; write host:port, and an IPv6 address in brackets, as in [::1]:6379")
            port = default_port if match[2] is None else self._value("port", match[2], read_port)
            hosts.append((match[1].strip("[]"), port))
        return tuple(hosts)

    def _path(self, parts: SplitResult, topology: Topology) -> dict[str, object]:
        from urllib.parse import unquote

        steps = [step for step in parts.path.split("/") if step]
        found: dict[str, object] = {}
        if topology == "sentinel":
            if not steps:
                raise self._error("must name the service, as in redis+sentinel://host:26379/mymaster/0")
            found["service"] = unquote(steps.pop(0))
        elif "," in parts.netloc.rpartition("@")[2] and topology == "standalone":
            raise self._error("names several hosts; that is for redis+sentinel:// and redis+cluster://")
        if topology == "cluster" and steps:
            raise self._error("names a database, and a cluster has database 0 alone; leave it out")
        if len(steps) > 1:
            raise self._error(f"has a path of {len(steps)} parts; only the database number belongs there")
        found["db"] = self._value("database", steps[0], read_db) if steps else 0
        return found

    def _value(self, what: str, text: str, reader: Callable[[str], _V]) -> _V:
        try:
            return reader(text)
        except ValueError as error:
            shown = "" if self._url.rfind(text) < self._url.rfind("@") else f" {text!r}"  # it may be part of a password
            raise self._error(f"has the {what}{shown}, which is not {error}") from None

    def _error(self, complaint: str) -> SettingsError:
        before, at, behind = self._url.rpartition("@")  # the last one: a password may hold anything, also '?' and '/'
        scheme = before.partition("://")[0] if "://" in before else "***"
        shown = (f"{scheme}://***@" if at else "") + behind.partition("?")[0]
        return SettingsError(f"{self._source}={shown!r} {complaint}")
