"""The cookie that carries a session's id: read with distrust, written so that scripts, other sites and other hosts never get it.

The rules are those of RFC 6265bis. Over HTTPS the name has the prefix ``__Host-``, which browsers accept from this very host
alone; with a path or a domain it is ``__Secure-``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from ..errors import SettingsError

__all__ = ["Cookie"]

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_PLACE: Final = re.compile(r"[\x21-\x3a\x3c-\x7e]*", re.ASCII)
_LARGEST: Final = 4096  # bytes that browsers keep


class Cookie:
    """How the session's cookie looks.

    Args:
        name: without prefix.
        secure: "auto" goes by the request's scheme; True is for servers behind a proxy that speaks TLS for them.
        same_site: "lax" (other sites' links bring it, their forms and scripts do not), "strict", or "none" (needs HTTPS).
        path, domain: where it is valid; by default on this host, everywhere.
        persistent: browsers keep it over their own end, until the absolute end of the session. Remembered sessions always do so.

    Raises:
        SettingsError: such a cookie would be refused by browsers, or is no cookie.
    """

    def __init__(
        self,
        name: str = "session_id",
        *,
        secure: bool | Literal["auto"] = "auto",
        same_site: Literal["lax", "strict", "none"] = "lax",
        path: str = "/",
        domain: str | None = None,
        persistent: bool = False,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower().startswith(("__host-", "__secure-")):
            raise SettingsError(f"cookie name {name!r} cannot be used: letters, digits, '_' and '-'; its prefix is added over HTTPS")
        if same_site not in ("lax", "strict", "none"):
            raise SettingsError(f"same_site={same_site!r} is unknown: use 'lax', 'strict' or 'none'")
        if same_site == "none" and secure is False:
            raise SettingsError("same_site='none' without secure is refused by browsers: use secure=True")
        if not path.startswith("/") or not _PLACE.fullmatch(path) or (domain is not None and not re.fullmatch(r"[A-Za-z0-9.-]+", domain)):
            raise SettingsError(f"path={path!r}, domain={domain!r}: a path begins with '/', a domain is a host's name")
        self._name = name
        self._secure = secure
        self._domain = domain
        self._path = path
        self.persistent = persistent
        self._prefixed = ("__Host-" if path == "/" and domain is None else "__Secure-") + name
        self._wanted = [f"{self.name(https=https)}=".encode() for https in (False, True)]
        self._tail = f"; Path={path}" + (f"; Domain={domain}" if domain else "") + f"; HttpOnly; SameSite={same_site.capitalize()}"

    def name(self, *, https: bool) -> str:
        """Return the cookie's name on such a connection."""
        return self._prefixed if self._is_secure(https) else self._name

    def read(self, headers: Iterable[tuple[bytes, bytes]], *, https: bool) -> str | None:
        """Return the value that the client sent, untrusted; None if it sent none. Of several the first counts."""
        wanted = self._wanted[https]
        for name, value in headers:
            if name == b"cookie" and wanted in value:
                for pair in value.split(b";"):
                    text = pair.strip()
                    if text.startswith(wanted):
                        return text[len(wanted) :].strip(b' "').decode("latin-1")
        return None

    def write(self, value: str, *, https: bool, max_age: int | None) -> bytes:
        """Return the header that sets it, for *max_age* seconds (None: until the browser ends)."""
        age = "" if max_age is None else f"; Max-Age={max(0, max_age)}"
        header = f"{self.name(https=https)}={value}{age}{self._tail}" + ("; Secure" if self._is_secure(https) else "")
        if len(header) > _LARGEST:
            raise SettingsError(f"the session's cookie has {len(header)} bytes, and browsers keep {_LARGEST}: shorten path or domain")
        return header.encode("latin-1")

    def clear(self, *, https: bool) -> bytes:
        """Return the header that removes it."""
        return self.write("", https=https, max_age=0)

    def _is_secure(self, https: bool) -> bool:
        return https if self._secure == "auto" else self._secure

    def __repr__(self) -> str:
        return f"Cookie({self._name!r}{self._tail})"
