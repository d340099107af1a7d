"""What the demo reads from the environment. A value that cannot be used is an error that names its variable, never a password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..errors import SettingsError
from ..settings import Settings

__all__ = ["DemoSettings", "database_url", "where_is"]

_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+asyncpg")
_SQLITE: Final = ("sqlite", "sqlite+aiosqlite")
_FORMS: Final = "postgresql://user:password@host:5432/name or sqlite:///path/to/file"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """Where the API listens, and which servers it uses. None stands for a private one that the demo starts and removes."""

    host: str = "127.0.0.1"
    port: int = 8000
    database: URL | None = None
    redis: Settings | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> DemoSettings:
        """Read ``HOST``, ``PORT``, ``DATABASE_URL``, and ``REDIS_URL`` or ``REDIS_HOST`` with its companions.

        Raises:
            SettingsError: a variable cannot be read; the message names it.
        """
        environ = os.environ if environ is None else environ
        given = "REDIS_URL" in environ or "REDIS_HOST" in environ
        return cls(
            host=_host(environ.get("HOST", "127.0.0.1")),
            port=_port(environ.get("PORT", "8000")),
            database=database_url(environ["DATABASE_URL"]) if "DATABASE_URL" in environ else None,
            redis=Settings.from_env(environ) if given else None,
        )


def database_url(text: str) -> URL:
    """Return the SQLAlchemy URL, with its asyncio driver, that *text* names.

    Raises:
        SettingsError: it is not a PostgreSQL or SQLite URL that can be read. Of the value only the scheme is shown.
    """
    try:
        url = make_url(text.strip())
    except (ArgumentError, ValueError):
        raise _unusable(text, "is not a URL that can be read") from None
    if url.drivername in _POSTGRESQL:
        return _postgresql(url, text)
    if url.drivername in _SQLITE:
        return _sqlite(url, text)
    raise _unusable(text, "has no known scheme")


def where_is(url: URL) -> str:
    """Return *url* for messages: scheme, host and database, without user and password."""
    bare = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    socket = url.query.get("host")
    return bare.render_as_string() + (f"?host={socket}" if socket else "")


def _postgresql(url: URL, text: str) -> URL:
    query = dict(url.query)
    if "sslmode" in query:  # libpq's word, which hosting providers write; asyncpg calls it ssl
        query["ssl"] = query.pop("sslmode")
    if set(query) - {"host", "port", "ssl"} or any(not isinstance(value, str) for value in query.values()):
        raise _unusable(text, "has an option that is not understood; host, port and sslmode are")
    return url.set(drivername="postgresql+asyncpg", query=query)


def _sqlite(url: URL, text: str) -> URL:
    if url.query or url.host or url.username:
        raise _unusable(text, "names more than a file")
    if not url.database or url.database == ":memory:":  # each connection would see a database of its own
        raise _unusable(text, "names no file")
    return url.set(drivername="sqlite+aiosqlite")


def _unusable(text: str, complaint: str) -> SettingsError:
    scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://", text)
    shown = f"{scheme[1]}://..." if scheme else "..."
    return SettingsError(f"DATABASE_URL={shown!r} {complaint}; write {_FORMS}")


def _host(text: str) -> str:
    if not text or re.search(r"[\s/@,]", text):
        raise SettingsError(f"HOST={text!r} is not a host name or address, such as 127.0.0.1")
    return text.strip("[]")


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise SettingsError(f"PORT={text!r} is not a port number from 0 to 65535 (0 picks a free one)")
    return int(text)
