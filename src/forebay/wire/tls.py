"""TLS checks the server's certificate and its name, unless a setting that says "insecure" spells out that it shall not."""

from __future__ import annotations

import ssl
from pathlib import Path

from ..errors import ConnectFailed
from ..settings import Settings

__all__ = ["Tls"]


class Tls:
    """The TLS context of a bay. It is made anew when one of its files has changed, so that certificates can be rotated."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context: ssl.SSLContext | None = None
        self._made_from: tuple[int, ...] = ()

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Raises:
            ConnectFailed: a file cannot be read, or is no certificate or key.
        """
        try:
            now = tuple(mark for path in self._files() for mark in _marks(path))
            if self._context is None or now != self._made_from:
                self._context, self._made_from = self._make(), now
        except (OSError, ValueError) as error:  # also ssl.SSLError; ValueError: no name for a file
            settings = self._settings
            files = f"REDIS_TLS_CA={settings.tls_ca!r}, REDIS_TLS_CERT={settings.tls_cert!r}, REDIS_TLS_KEY={settings.tls_key!r}"
            raise ConnectFailed(f"TLS cannot be set up from {files}: {error}") from error
        return self._context

    def server_name(self, host: str) -> str:
        """Return the name that the certificate must bear, and that is sent as SNI."""
        return self._settings.tls_server_name or host

    def _files(self) -> list[str]:
        settings = self._settings
        return [path for path in (settings.tls_ca, settings.tls_cert, settings.tls_key) if path is not None]

    def _make(self) -> ssl.SSLContext:
        settings = self._settings
        context = ssl.create_default_context(cafile=settings.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.tls_verify != "full":
            context.check_hostname = False
        if settings.tls_verify == "insecure-none":
            context.verify_mode = ssl.CERT_NONE
        if settings.tls_cert is not None:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
        return context

    def __repr__(self) -> str:
        return f"<Tls verify={self._settings.tls_verify}>"


def _marks(path: str) -> tuple[int, int, int]:
    """Return what changes when the file at *path* is replaced, also by one of the same time."""
    status = Path(path).stat()
    return status.st_mtime_ns, status.st_ino, status.st_size
