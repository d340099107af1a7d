"""Text from an environment or a URL becomes a value, or a ``ValueError`` that says what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .durations import to_seconds

__all__ = ["TUNING", "read_db", "read_host", "read_port"]

_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def read_host(text: str) -> str:
    """Return a host name or address, without the brackets of an IPv6 address."""
    if not text or re.search(r"[\s/@,]", text):
        raise ValueError("a host name or address")
    return text.strip("[]")


def _whole(text: str, lowest: int, highest: int, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
        raise ValueError(f"{what} from {lowest} to {highest}")
    return int(text)


read_port: Final = partial(_whole, lowest=1, highest=65535, what="a port number")
read_db: Final = partial(_whole, lowest=0, highest=1_000_000, what="a database number")


def _seconds(text: str) -> float:
    try:
        return to_seconds(text)
    except ValueError:
        raise ValueError("a time above zero, such as '3', '500ms' or '5s'") from None


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)b?", text.strip().lower())
    if match is None or not int(match[1]):
        raise ValueError("a number of bytes above zero, such as '65536', '64k' or '64m'")
    return int(match[1]) * _UNITS[match[2]]


def _text(text: str) -> str:
    if not text:
        raise ValueError("a name: it is empty")
    return text


def _verification(text: str) -> str:
    if text not in ("full", "insecure-no-hostname", "insecure-none"):
        raise ValueError("'full', 'insecure-no-hostname' or 'insecure-none'")
    return text


def _host_map(text: str) -> dict[str, str]:
    pairs = {}
    for item in text.split(","):
        match = re.fullmatch(r"\s*([^\s=,]+:[0-9]{1,5})=([^\s=,]+:[0-9]{1,5})\s*", item)
        if match is None or not all(0 < int(place.rpartition(":")[2]) <= 65535 for place in match.groups()):
            raise ValueError("announced:port=reachable:port pairs joined by ','")
        pairs[match[1]] = match[2]
    return pairs


TUNING: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "pool_size": ("REDIS_POOL_SIZE", partial(_whole, lowest=1, highest=100_000, what="a pool size")),
    "min_idle": ("REDIS_MIN_IDLE", partial(_whole, lowest=0, highest=100_000, what="a number of idle connections")),
    "dial_timeout": ("REDIS_DIAL_TIMEOUT", _seconds),
    "read_timeout": ("REDIS_READ_TIMEOUT", _seconds),
    "write_timeout": ("REDIS_WRITE_TIMEOUT", _seconds),
    "close_timeout": ("REDIS_CLOSE_TIMEOUT", _seconds),
    "cache_budget": ("REDIS_CACHE_BUDGET", _seconds),
    "limit_deadline": ("REDIS_LIMIT_DEADLINE", _seconds),
    "ping_every": ("REDIS_PING_EVERY", _seconds),
    "large_value": ("REDIS_LARGE_VALUE", _bytes),
    "max_in_flight": ("REDIS_MAX_IN_FLIGHT", partial(_whole, lowest=1, highest=10_000_000, what="a number of commands")),
    "max_in_flight_bytes": ("REDIS_MAX_IN_FLIGHT_BYTES", _bytes),
    "password_file": ("REDIS_PASSWORD_FILE", _text),
    "tls_ca": ("REDIS_TLS_CA", _text),
    "tls_cert": ("REDIS_TLS_CERT", _text),
    "tls_key": ("REDIS_TLS_KEY", _text),
    "tls_server_name": ("REDIS_TLS_SERVER_NAME", read_host),
    "tls_verify": ("REDIS_TLS_VERIFY", _verification),
    "sentinel_username": ("REDIS_SENTINEL_USERNAME", _text),
    "sentinel_password": ("REDIS_SENTINEL_PASSWORD", _text),
    "host_map": ("REDIS_HOST_MAP", _host_map),
}
"""How a connection is made and used: each setting's name, its variable, and its reader."""
