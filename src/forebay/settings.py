"""Where the server is and how patiently it is asked: read once, checked whole, and never printed with its password.

*Where* (address, user, password, database) comes from one place: the URL that was given, else ``REDIS_URL``, else
``REDIS_HOST`` and its companions. *How* (pool and timeouts) may come from the URL's query, else from the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from msgspec import Struct
from msgspec.structs import asdict

from .durations import to_seconds
from .errors import SettingsError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["Settings"]

Topology = Literal["standalone", "sentinel", "cluster", "embedded"]

_SCHEMES: Final[dict[str, Topology]] = {
    "redis": "standalone",
    "rediss": "standalone",
    "unix": "standalone",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "embedded": "embedded",
}
_FORMS: Final = (
    "redis://host:6379/0, rediss://host:6380/0, unix:///run/redis.sock, "
    "redis+sentinel://h1:26379,h2:26379/service/0, redis+cluster://h1:6379,h2:6379 or embedded://"
)
_TUNING: Final = {
    "pool_size": "REDIS_POOL_SIZE",
    "min_idle": "REDIS_MIN_IDLE",
    "dial_timeout": "REDIS_DIAL_TIMEOUT",
    "read_timeout": "REDIS_READ_TIMEOUT",
    "write_timeout": "REDIS_WRITE_TIMEOUT",
}

_V = TypeVar("_V")


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a bay needs to know about its server.

    Timeouts are seconds. ``pool_size`` bounds the sockets that threads share; ``min_idle`` of them are opened at the
    start and kept. Build one with `from_env` or `from_url`; both raise `SettingsError`.
    """

    topology: Topology = "standalone"
    hosts: tuple[tuple[str, int], ...] = (("localhost", 6379),)
    path: str | None = None
    tls: bool = False
    service: str | None = None
    username: str | None = None
    password: str | None = None
    db: int = 0
    pool_size: int = 10
    min_idle: int = 5
    dial_timeout: float = 5.0
    read_timeout: float = 3.0
    write_timeout: float = 3.0

    @property
    def where(self) -> str:
        """The address for messages: scheme, hosts and database, without user and password."""
        if self.topology == "embedded":
            return "embedded://"
        if self.path is not None:
            return f"unix://{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        scheme = {"sentinel": "redis+sentinel", "cluster": "redis+cluster"}.get(self.topology, "rediss" if self.tls else "redis")
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{service}" + ("" if self.topology == "cluster" else f"/{self.db}")

    def __repr__(self) -> str:
        """All fields, with a password replaced by ``***``."""
        shown = [f"{name}={'***' if name == 'password' and value else value!r}" for name, value in asdict(self).items()]
        return f"Settings({', '.join(shown)})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read ``REDIS_URL``, or ``REDIS_HOST``, ``REDIS_PORT``, ``REDIS_USERNAME``, ``REDIS_PASSWORD`` and ``REDIS_DB``.

        Raises:
            SettingsError: a variable cannot be read; the message names it and its value.
        """
        environ = os.environ if environ is None else environ
        if "REDIS_URL" in environ:
            return cls.from_url(environ["REDIS_URL"], environ, source="REDIS_URL")
        where = {
            "hosts": ((_read(environ, "REDIS_HOST", _host, "localhost"), _read(environ, "REDIS_PORT", _port, 6379)),),
            "username": environ.get("REDIS_USERNAME") or None,
            "password": environ.get("REDIS_PASSWORD") or None,
            "db": _read(environ, "REDIS_DB", _db, 0),
        }
        return cls._checked(where, _tuning(environ))

    @classmethod
    def from_url(cls, url: str, environ: Mapping[str, str] | None = None, *, source: str = "url") -> Settings:
        """Read *url*; pool and timeouts that its query leaves out come from the environment.

        Query options: ``pool_size``, ``min_idle``, ``dial_timeout``, ``read_timeout``, ``write_timeout``, and ``db`` for ``unix://``.

        Raises:
            SettingsError: the URL cannot be read. *source* is how the message calls it.
        """
        if not isinstance(url, str):
            raise SettingsError(f"{source} must be text such as {_FORMS}, not {type(url).__name__}")
        where, query = _Url(url, source).read()
        tuning = _tuning(os.environ if environ is None else environ, skip=query)
        tuning.update({name: _convert(f"{name} in {source}", text, _TUNING_READERS[name]) for name, text in query.items()})
        return cls._checked(where, tuning)

    @classmethod
    def _checked(cls, where: Mapping[str, object], tuning: dict[str, Any]) -> Settings:
        size = tuning.get("pool_size", 10)
        if "min_idle" not in tuning:
            tuning["min_idle"] = min(5, size)
        if tuning["min_idle"] > size:
            raise SettingsError(
                f"REDIS_MIN_IDLE={tuning['min_idle']} is above REDIS_POOL_SIZE={size}: a pool cannot keep more idle sockets than it has"
            )
        return cls(**cast("Any", where), **tuning)


class _Url:
    """One URL on its way to settings; errors name *source* and show the URL without its secrets."""

    def __init__(self, url: str, source: str) -> None:
        self._url = url
        self._source = source

    def read(self) -> tuple[dict[str, object], dict[str, str]]:
        from urllib.parse import unquote, urlsplit

        try:
            parts = urlsplit(self._url.strip())
        except ValueError:
            raise self._error(f"is not a URL; write {_FORMS}") from None
        topology = _SCHEMES.get(parts.scheme)
        if topology is None or "://" not in self._url:
            raise self._error(f"has no known scheme; write {_FORMS}")
        if parts.fragment:
            raise self._error("has a '#' part: escape '#' in a password as %23")
        query = self._query(parts)
        where: dict[str, object] = {"topology": topology, "tls": parts.scheme == "rediss"}
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
            where["db"] = self._value("database", query.pop("db", "0"), _db)
        else:
            where["hosts"] = self._hosts(location, 26379 if topology == "sentinel" else 6379)
            where.update(self._path(parts, topology))
        unknown = sorted(set(query) - set(_TUNING))
        if unknown:
            raise self._error(f"has an unknown option {unknown[0]!r}; known are {', '.join(_TUNING)}")
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
            port = default_port if match[2] is None else self._value("port", match[2], _port)
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
        found["db"] = self._value("database", steps[0], _db) if steps else 0
        return found

    def _value(self, what: str, text: str, reader: Callable[[str], _V]) -> _V:
        try:
            return reader(text)
        except ValueError as error:
            raise self._error(f"has the {what} {text!r}, which is not {error}") from None

    def _error(self, complaint: str) -> SettingsError:
        bare = self._url.partition("?")[0]
        shown = re.sub(r"://.*@", "://***@", bare, flags=re.DOTALL) if "@" in bare else bare
        return SettingsError(f"{self._source}={shown!r} {complaint}")


def _tuning(environ: Mapping[str, str], skip: Mapping[str, str] | None = None) -> dict[str, Any]:
    wanted = {name: variable for name, variable in _TUNING.items() if variable in environ and name not in (skip or {})}
    return {name: _convert(variable, environ[variable], _TUNING_READERS[name]) for name, variable in wanted.items()}


def _read(environ: Mapping[str, str], variable: str, reader: Callable[[str], _V], default: _V) -> _V:
    return default if variable not in environ else _convert(variable, environ[variable], reader)


def _convert(variable: str, text: str, reader: Callable[[str], _V]) -> _V:
    try:
        return reader(text)
    except ValueError as error:
        raise SettingsError(f"{variable}={text!r} is not {error}") from None


def _host(text: str) -> str:
    if not text or re.search(r"[\s/@,]", text):
        raise ValueError("a host name or address")
    return text.strip("[]")


def _whole(text: str, lowest: int, highest: int, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
        raise ValueError(f"{what} from {lowest} to {highest}")
    return int(text)


def _port(text: str) -> int:
    return _whole(text, 1, 65535, "a port number")


def _db(text: str) -> int:
    return _whole(text, 0, 1_000_000, "a database number")


def _pool_size(text: str) -> int:
    return _whole(text, 1, 100_000, "a pool size")


def _min_idle(text: str) -> int:
    return _whole(text, 0, 100_000, "a number of idle connections")


def _seconds(text: str) -> float:
    try:
        return to_seconds(text)
    except ValueError:
        raise ValueError("a time above zero, such as '3', '500ms' or '5s'") from None


_TUNING_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "pool_size": _pool_size,
    "min_idle": _min_idle,
    "dial_timeout": _seconds,
    "read_timeout": _seconds,
    "write_timeout": _seconds,
}
