"""How every TCP socket is set up: nothing is delayed, and a peer that vanished without a word is noticed by the kernel."""

from __future__ import annotations

import socket
from typing import Final, Protocol

__all__ = ["explained", "tune"]

_KEEPALIVE: Final = {  # seconds, and a number of probes; macOS calls the first by the second name
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPALIVE": 60,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
}


class Tunable(Protocol):
    """A socket, or what a transport shows of its own."""

    @property
    def family(self) -> int: ...

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def tune(sock: Tunable) -> None:
    """Send without delay, and let the kernel probe a silent peer: after a minute, and give it up after another one."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def explained(error: Exception) -> str:
    """Return what *error* says, and for a certificate that was not accepted what to do."""
    reason = getattr(error, "verify_message", "")  # of an ssl.SSLCertVerificationError
    if "ostname" in reason or "IP address" in reason:
        return f"{error}; name what the certificate bears in REDIS_TLS_SERVER_NAME, if that is right"
    if reason:
        return f"{error}; name the authority that signed it in REDIS_TLS_CA"
    return str(error)
