"""Who is asking: nobody can choose whose limit they use, and nobody has two for one address."""

import hashlib
import ipaddress
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay import SettingsError
from forebay.web.identity import by_address, by_header, by_user, client_address, first_of, trusted_networks

PROXIES = ["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.7"]
TRUSTED = trusted_networks(PROXIES)


def scope(peer="10.1.1.1", *forwarded, header="x-forwarded-for", **more):
    headers = [(header.encode(), text.encode("latin-1")) for text in forwarded]
    return {"type": "http", "client": None if peer is None else (peer, 5), "headers": headers, **more}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["8.8.8.8, 198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["8.8.8.8", "198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1, 10.2.2.2, 192.0.2.7"], "198.51.100.1"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.1.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.1.1.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.1.1.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("2001:db8:ffff::1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["unknown"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, nonsense"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, "], "10.1.1.1"),
        ("10.1.1.1", ["fe80::1%eth0"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, 010.0.0.1"], "10.1.1.1"),
        ("10.1.1.1", ["1" * 5000], "10.1.1.1"),
        ("10.1.1.1", ["1" * 5000 + ", 198.51.100.1"], "198.51.100.1"),
        (None, ["198.51.100.1"], None),
        ("a name", ["198.51.100.1"], None),
    ],
)
def test_the_address_is_read_from_the_right_past_trusted_proxies(peer, forwarded, client):
    """CVE-2020-28483: an address that the client wrote itself was believed."""
    found = client_address(scope(peer, *forwarded), TRUSTED)
    assert (None if found is None else str(found)) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["for=198.51.100.1"], "198.51.100.1"),
        (['For="[2001:db8::1]:4711";proto=https;by=10.0.0.1'], "2001:db8::1"),
        (["for=8.8.8.8, for=198.51.100.1;host=shop, for=10.2.2.2"], "198.51.100.1"),
        (["for=8.8.8.8", 'proto=http; for="198.51.100.1"'], "198.51.100.1"),
        (['for="198.51.100.1\\:80"'], "198.51.100.1"),
        (["for=unknown"], "10.1.1.1"),
        (["for=_hidden, for=10.2.2.2"], "10.1.1.1"),
        (["proto=https"], "10.1.1.1"),
        (["for=198.51.100.1;for=8.8.8.8"], "10.1.1.1"),
        (['for="198.51.100.1'], "10.1.1.1"),
        (['for="8.8.8.8, for=198.51.100.1"'], "10.1.1.1"),
        (["for=198.51.100.1;"], "10.1.1.1"),
        (["198.51.100.1"], "10.1.1.1"),
        (["@@@, for=198.51.100.1"], "198.51.100.1"),  # what the client wrote does not hide what the proxy did
        (['for="8.8.8.8, for=198.51.100.1'], "198.51.100.1"),
        (["for=" + "1" * 5000 + ", for=198.51.100.1"], "198.51.100.1"),
    ],
)
def test_the_standard_header_is_read_as_the_standard_says(forwarded, client):
    assert str(client_address(scope("10.1.1.1", *forwarded, header="forwarded"), TRUSTED, "forwarded")) == client


def test_only_the_header_that_the_proxies_write_is_looked_at():
    asked = scope("10.1.1.1", "8.8.8.8", header="forwarded")
    assert str(client_address(asked, TRUSTED)) == "10.1.1.1"
    assert str(client_address(scope("10.1.1.1", "8.8.8.8"), TRUSTED, "forwarded")) == "10.1.1.1"


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(written=st.lists(st.one_of(addresses, st.text(st.characters(max_codepoint=255, exclude_characters=","), max_size=20)), max_size=6))
@example(written=["10.0.0.1"] * 100)
def test_whatever_a_client_writes_it_is_itself(written):
    """CVE-2025-59152: a header of the client's chose whose limit was used."""
    before = ", ".join(written)
    chain = f"{before}, 198.51.100.1, 10.2.2.2" if before else "198.51.100.1, 10.2.2.2"
    if len(chain) <= 4096:
        assert str(client_address(scope("10.1.1.1", chain), TRUSTED)) == "198.51.100.1"
    assert str(client_address(scope("198.51.100.1", before), TRUSTED)) == "198.51.100.1"
    assert str(client_address(scope("198.51.100.1", before))) == "198.51.100.1"


@given(address=st.ip_addresses(v=4))
def test_a_mapped_address_is_the_same_client(address):
    """CVE-2026-30827: ::ffff:192.0.2.1 had a limit of its own, or all mapped ones shared one."""
    identity = by_address()
    assert identity(scope(f"::ffff:{address}")) == identity(scope(str(address))) == f"address:{address}"


@given(address=st.ip_addresses(v=6), other=st.integers(0, 2**64 - 1))
def test_one_customers_network_is_one_client(address, other):
    neighbour = ipaddress.IPv6Address(int(address) >> 64 << 64 | other)
    identity, narrow = by_address(), by_address(ipv6_prefix=128)
    if address.ipv4_mapped is None and neighbour.ipv4_mapped is None:
        assert identity(scope(str(address))) == identity(scope(str(neighbour)))
        assert (narrow(scope(str(address))) == narrow(scope(str(neighbour)))) == (address == neighbour)
        beyond = ipaddress.IPv6Address(int(address) ^ 1 << 64)
        assert identity(scope(str(address))) != identity(scope(str(beyond)))


def test_keys_are_not_kept_and_users_come_first():
    identity = by_header("X-API-Key")
    asked = {"headers": [(b"x-api-key", b"secret")]}
    assert identity(asked) == f"key:{hashlib.sha256(b'secret').hexdigest()}"
    bearer = by_header("authorization", prefix="Bearer ")
    assert bearer({"headers": [(b"authorization", b"Bearer t")]}) == f"key:{hashlib.sha256(b't').hexdigest()}"
    for value in (b"Basic t", b"Bearer ", b"Bearer " + b"x" * 5000):
        assert bearer({"headers": [(b"authorization", value)]}) is None
    who = first_of(by_user, identity, by_address())
    loaded = SimpleNamespace(loaded=SimpleNamespace(user_id="42"))
    assert who({**scope("198.51.100.1"), "session": loaded}) == "user:42"
    assert who({**scope("198.51.100.1"), "session": SimpleNamespace(loaded=SimpleNamespace(user_id=None))}) == "address:198.51.100.1"
    assert who({**scope("198.51.100.1"), **asked}) == identity(asked)
    assert who(scope(None)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trusted": "10.0.0.0/8"}, "one text"),
        ({"trusted": ["10.0.0.1/8"]}, "'10.0.0.1/8' is none"),
        ({"trusted": ["proxy"]}, "'proxy' is none"),
        ({"trusted": ["0.0.0.0/0"]}, "everybody"),
        ({"header": "x-real-ip"}, "header='x-real-ip' is unknown"),
        ({"ipv6_prefix": 0}, "ipv6_prefix=0"),
        ({"ipv6_prefix": True}, "ipv6_prefix=True"),
    ],
)
def test_what_cannot_be_used_is_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        by_address(**options)
