"""Who is asking: a user, an API key, or an address, which is believed as far as trusted proxies vouch for it.

Each proxy appends who spoke to it. So the list is read from the right, past the proxies that are ours; what stands further left
was written by the client, and anybody can write anything there.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Literal

from ..errors import SettingsError

__all__ = ["Identity", "by_address", "by_header", "by_user", "client_address", "first_of", "needs_session", "trusted_networks"]

Scope = Mapping[str, Any]
Identity = Callable[[Scope], str | None]
"""Says who a request is from, or None if it cannot tell. Sync, and quick."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST: Final = 4096  # bytes of a header that is looked at
_MOST: Final = 64  # hops that are looked at
_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)
_PAIR: Final = re.compile(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([!#$%&\'*+.^_`|~0-9A-Za-z-]+))', re.ASCII)
_ELEMENT: Final = re.compile(rf"(?:{_PAIR.pattern})(?:\s*;\s*(?:{_PAIR.pattern}))*", re.ASCII)
_MOST_COMMAS: Final = 8  # within the quotes of one hop


def trusted_networks(networks: Iterable[str]) -> tuple[Network, ...]:
    """Return *networks*, such as ``10.0.0.0/8`` or ``2001:db8::1``, read.

    Raises:
        SettingsError: one of them is none; the message names it.
    """
    if isinstance(networks, str):
        raise SettingsError(f"trusted={networks!r} is one text: give a list of networks, such as ['10.0.0.0/8']")
    found: list[Network] = []
    for each in networks:
        try:
            network = ipaddress.ip_network(each)
        except (ValueError, TypeError):
            raise SettingsError(f"trusted network {each!r} is none: write an address, or a network such as 10.0.0.0/8") from None
        if network.prefixlen == 0:
            raise SettingsError(f"trusted network {each!r} is everybody: then anybody could say who they are; name your proxies")
        found.append(network)
    return tuple(found)


def client_address(
    scope: Scope, trusted: Sequence[Network] = (), header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
) -> Address | None:
    """Return the address of the client behind *trusted* proxies, None if the server does not know its peer (a Unix socket).

    Only *header* is looked at, and only if the peer is trusted. Where a trusted proxy's word cannot be read, the peer is the answer.
    ``::ffff:192.0.2.1`` is ``192.0.2.1``.
    """
    client = scope.get("client")
    peer = None if not client else _address(str(client[0]))
    if peer is None or not _is_in(peer, trusted):
        return peer
    nearest = peer
    for hop in islice(_hops(scope["headers"], header), _MOST):
        address = None if hop is None else _address(hop)
        if address is None:
            return peer
        nearest = address
        if not _is_in(address, trusted):
            break
    return nearest


def by_address(
    trusted: Iterable[str] = (), *, header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for", ipv6_prefix: int = 64
) -> Identity:
    """Tell clients apart by address; those of one IPv6 network of *ipv6_prefix* bits, which one customer has, are one.

    Args:
        trusted: networks of the proxies that stand before the application, such as ``["10.0.0.0/8"]``. Without any the header is
            ignored.
        header: which one those proxies write: "x-forwarded-for" or "forwarded" (RFC 7239). The other is ignored.

    Raises:
        SettingsError: a network, the header or the prefix cannot be used.
    """
    networks = trusted_networks(trusted)
    if header not in ("x-forwarded-for", "forwarded"):
        raise SettingsError(f"header={header!r} is unknown: use 'x-forwarded-for' or 'forwarded'")
    if isinstance(ipv6_prefix, bool) or not isinstance(ipv6_prefix, int) or not 1 <= ipv6_prefix <= 128:
        raise SettingsError(f"ipv6_prefix={ipv6_prefix!r} is no number of bits from 1 to 128")
    mask = (1 << 128) - (1 << (128 - ipv6_prefix))

    def address(scope: Scope) -> str | None:
        found = client_address(scope, networks, header)
        if isinstance(found, ipaddress.IPv6Address):
            return f"address:{ipaddress.IPv6Address(int(found) & mask)}/{ipv6_prefix}"
        return None if found is None else f"address:{found}"

    return address


def by_header(name: str, *, prefix: str = "") -> Identity:
    """Tell clients apart by an API key in the header *name*, after *prefix* (``"Bearer "``, in any case). It is not kept.

    A key must be checked before it is believed: who invents keys would have a limit for each.
    """
    wanted, start = name.lower().encode("latin-1"), prefix.lower().encode("latin-1")

    def key(scope: Scope) -> str | None:
        for each, value in scope["headers"]:
            if each == wanted:
                text = bytes(value)
                found = text[len(start) :].strip()
                if found and text[: len(start)].lower() == start and len(text) <= _LONGEST:
                    return f"key:{hashlib.sha256(found).hexdigest()}"
                return None
        return None

    return key


def by_user(scope: Scope) -> str | None:
    """Tell users apart who are logged in with a session; `LimitMiddleware` loads it before."""
    session = getattr(scope.get("session"), "loaded", None)
    user = None if session is None else session.user_id
    return None if user is None else f"user:{user}"


_OF_SESSIONS: Final = "_forebay_needs_session"
setattr(by_user, _OF_SESSIONS, True)


def needs_session(identity: Identity) -> bool:
    """Whether *identity* can tell only once the session was loaded."""
    return bool(getattr(identity, _OF_SESSIONS, False))


def first_of(*identities: Identity) -> Identity:
    """Ask *identities* in turn, and take the first that can tell."""

    def first(scope: Scope) -> str | None:
        return next((found for identity in identities if (found := identity(scope)) is not None), None)

    setattr(first, _OF_SESSIONS, any(map(needs_session, identities)))
    return first


def _hops(headers: Iterable[tuple[bytes, bytes]], header: str) -> Iterator[str | None]:
    """Yield what proxies wrote, the nearest first; None for what cannot be read. What stands further left cannot disturb it."""
    wanted = header.encode()
    text = b",".join([bytes(value) for name, value in headers if name == wanted]).decode("latin-1")
    if len(text) > _LONGEST:
        text = text[-_LONGEST:].partition(",")[2]  # the first of these is cut
    parts = text.split(",") if text else []
    while parts:
        part = parts.pop().strip()
        if header == "x-forwarded-for":
            yield part
            continue
        joined = 0
        while part and (element := _ELEMENT.fullmatch(part)) is None and parts and joined < _MOST_COMMAS:
            part, joined = f"{parts.pop()},{part}".strip(), joined + 1  # a comma within quotes
        if part:
            yield _for_of(part) if element is not None else None


def _for_of(element: str) -> str | None:
    """Return the ``for`` of one hop (RFC 7239, section 4), an empty text if it has none; None if it has two."""
    found = [(token, quoted) for name, quoted, token in _PAIR.findall(element) if name.lower() == "for"]
    if len(found) > 1:
        return None
    token, quoted = found[0] if found else ("", "")
    return token or re.sub(r"\\(.)", r"\1", quoted)


@lru_cache(maxsize=4096)
def _address(text: str) -> Address | None:
    """Return an address, with or without a port; None if it is none (``unknown``, a name, a zone)."""
    found = _WITH_PORT.fullmatch(text)
    if found is not None:
        text = found[1] or found[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
