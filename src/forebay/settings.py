"""Where the server is and how patiently it is asked: read once, checked whole, and never printed with its password.

*Where* (address, user, password, database) comes from one place: the URL that was given, else ``REDIS_URL``, else
``REDIS_HOST`` and its companions. *How* (pool and timeouts) may come from the URL's query, else from the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from msgspec import Struct
from msgspec.structs import asdict, replace

from .errors import SettingsError
from .readers import TUNING, read_db, read_host, read_port
from .urls import FORMS, Topology, Url

__all__ = ["Settings"]

_SECRET: Final = frozenset({"password", "sentinel_password"})
_BOOLEANS: Final = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

_V = TypeVar("_V")


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a bay needs to know about its server. Build one with `from_env` or `from_url`, and change it with `replace`.

    Timeouts are seconds. ``pool_size`` bounds the sockets that threads share, and the extra connections of asyncio;
    ``min_idle`` of them are opened at the start and kept. ``cache_budget`` is what the cache may add to a request when the
    server is slow or hangs, ``limit_deadline`` what the decision about a limit may. ``password`` may be a function that returns
    the password of the day: it, or ``password_file``, is asked at each new connection. ``host_map`` says where the nodes of a
    cluster or the servers behind sentinels are really reached: ``{"announced:6379": "reachable:6379"}``.

    Raises:
        SettingsError: the fields contradict each other.
    """

    topology: Topology = "standalone"
    hosts: tuple[tuple[str, int], ...] = (("localhost", 6379),)
    path: str | None = None
    tls: bool = False
    service: str | None = None
    username: str | None = None
    password: str | Callable[[], str] | None = None
    db: int = 0
    pool_size: int = 10
    min_idle: int = 5
    dial_timeout: float = 5.0
    read_timeout: float = 3.0
    write_timeout: float = 3.0
    close_timeout: float = 3.0
    cache_budget: float = 0.05
    limit_deadline: float = 0.1
    ping_every: float = 30.0
    large_value: int = 64 * 1024
    max_in_flight: int = 20_000
    max_in_flight_bytes: int = 64 * 1024 * 1024
    password_file: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_server_name: str | None = None
    tls_verify: str = "full"
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    host_map: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.min_idle > self.pool_size:
            raise SettingsError(
                f"REDIS_MIN_IDLE={self.min_idle} is above REDIS_POOL_SIZE={self.pool_size}: "
                "a pool cannot keep more idle sockets than it has"
            )
        if self.password is not None and self.password_file is not None:
            raise SettingsError("a password and REDIS_PASSWORD_FILE are both given: which one holds? Leave one out")
        if self.tls_key is not None and self.tls_cert is None:
            raise SettingsError("REDIS_TLS_KEY is given without REDIS_TLS_CERT, the certificate that it belongs to")
        if self.tls_verify not in ("full", "insecure-no-hostname", "insecure-none"):
            raise SettingsError(f"REDIS_TLS_VERIFY={self.tls_verify!r} is not 'full', 'insecure-no-hostname' or 'insecure-none'")

    @property
    def hurry(self) -> float:
        """For how many seconds those wait who have the cache's budget only: never longer than all others."""
        return min(self.cache_budget, self.read_timeout)

    @property
    def where(self) -> str:
        """The address for messages: scheme, hosts and database, without user and password."""
        if self.topology == "embedded":
            return "embedded://"
        if self.path is not None:
            return f"unix://{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        scheme = ("rediss" if self.tls else "redis") + {"sentinel": "+sentinel", "cluster": "+cluster"}.get(self.topology, "")
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{service}" + ("" if self.topology == "cluster" else f"/{self.db}")

    def __repr__(self) -> str:
        """All fields, with each password replaced by ``***``."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, "***" if name in _SECRET and value else value) for name, value in asdict(self).items()]

    def replace(self, **changes: Any) -> Settings:
        """Return these settings with some fields changed, as in ``Settings.from_env().replace(password=fetch_password)``.

        Raises:
            SettingsError: there is no such field, or the fields contradict each other.
        """
        unknown = sorted(set(changes) - set(self.__struct_fields__))
        if unknown:
            raise SettingsError(f"there is no setting {unknown[0]!r}; known are {', '.join(self.__struct_fields__)}")
        return replace(self, **changes)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read ``REDIS_URL``, or ``REDIS_HOST``, ``REDIS_PORT``, ``REDIS_USERNAME``, ``REDIS_PASSWORD``, ``REDIS_DB``, ``REDIS_TLS``.

        Raises:
            SettingsError: a variable cannot be read; the message names it and its value.
        """
        environ = os.environ if environ is None else environ
        if "REDIS_URL" in environ:
            return cls.from_url(environ["REDIS_URL"], environ, source="REDIS_URL")
        where = {
            "hosts": ((_read(environ, "REDIS_HOST", read_host, "localhost"), _read(environ, "REDIS_PORT", read_port, 6379)),),
            "username": environ.get("REDIS_USERNAME") or None,
            "password": environ.get("REDIS_PASSWORD") or None,
            "db": _read(environ, "REDIS_DB", read_db, 0),
            "tls": _read(environ, "REDIS_TLS", _boolean, default=False),
        }
        return cls._checked(where, _tuning(environ))

    @classmethod
    def from_url(cls, url: str, environ: Mapping[str, str] | None = None, *, source: str = "url") -> Settings:
        """Read *url*; what its query leaves out of pool, timeouts, bounds and TLS comes from the environment.

        Query options are the names of the fields from ``pool_size`` on, as in ``?read_timeout=500ms``; and ``db`` for ``unix://``.

        Raises:
            SettingsError: the URL cannot be read. *source* is how the message calls it.
        """
        if not isinstance(url, str):
            raise SettingsError(f"{source} must be text such as {FORMS}, not {type(url).__name__}")
        where, query = Url(url, source).read()
        tuning = _tuning(os.environ if environ is None else environ, skip=query)
        tuning.update({name: _convert(f"{name} in {source}", text, TUNING[name][1]) for name, text in query.items()})
        return cls._checked(where, tuning)

    @classmethod
    def _checked(cls, where: Mapping[str, object], tuning: dict[str, Any]) -> Settings:
        if "min_idle" not in tuning:
            tuning["min_idle"] = min(5, tuning.get("pool_size", 10))
        return cls(**cast("Any", where), **tuning)


def _tuning(environ: Mapping[str, str], skip: Mapping[str, str] | None = None) -> dict[str, Any]:
    wanted = {name: reading for name, reading in TUNING.items() if reading[0] in environ and name not in (skip or {})}
    return {name: _convert(variable, environ[variable], reader) for name, (variable, reader) in wanted.items()}


def _read(environ: Mapping[str, str], variable: str, reader: Callable[[str], _V], default: _V) -> _V:
    return default if variable not in environ else _convert(variable, environ[variable], reader)


def _convert(variable: str, text: str, reader: Callable[[str], _V]) -> _V:
    try:
        return reader(text)
    except ValueError as error:
        raise SettingsError(f"{variable}={text!r} is not {error}") from None


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError("'true' or 'false'") from None
