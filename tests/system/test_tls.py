"""TLS on Debian's redis-server, both colours: who is let in, who is refused and told why, and that deadlines hold there too."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import time
import warnings

import pytest
import trustme

from forebay import ConnectFailed, DeadlineExceeded, EmbeddedServer, Forebay, Settings
from tests.calling import finished, start
from tests.patience import served_again
from tests.peer import Peer
from tests.servers import free_ports

pytestmark = pytest.mark.system

LARGE = b"0123456789abcdef" * 65536  # 1 MB


class Certified:
    """A server with a port for TLS and one without, and the files of its authority."""

    def __init__(self, directory, *, names=("localhost", "127.0.0.1"), clients="no", options=()):
        self.authority = trustme.CA()
        self.ca = str(directory / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        self.client = write(self.authority.issue_cert("client.example"), directory, "client")
        certificate, key = write(self.authority.issue_cert(*names), directory, "server")
        self.port = free_ports(1)[0]
        tls = ["--tls-port", str(self.port), "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", self.ca]
        self.server = EmbeddedServer(port=0, options=[*tls, "--tls-auth-clients", clients, *options])
        self.plain = self.server.url

    def url(self, host="localhost", **options):
        query = "&".join(f"{name}={value}" for name, value in ({"tls_ca": self.ca} | options).items() if value is not None)
        return f"rediss://{host}:{self.port}/0?{query}"


def write(leaf, directory, name):
    """Write a certificate and its key to where they may be replaced; return both paths."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    leaf.private_key_pem.write_to_path(str(key))
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return str(certificate), str(key)


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    one = Certified(tmp_path_factory.mktemp("tls"))
    yield one
    one.server.stop()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Its certificate bears a name under which it is not reached."""
    one = Certified(tmp_path_factory.mktemp("elsewhere"), names=("cache.example",))
    yield one
    one.server.stop()


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """It lets nobody in without a certificate of its authority."""
    one = Certified(tmp_path_factory.mktemp("strict"), clients="yes")
    yield one
    one.server.stop()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """An authority that signed no server here: its certificate, and one that it gave to a client."""
    directory, authority = tmp_path_factory.mktemp("stranger"), trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    return str(directory / "ca.pem"), write(authority.issue_cert("client.example"), directory, "client")


async def refused(bay, *hints):
    """Connecting fails, as `ConnectFailed`, with words that help."""
    with pytest.raises(ConnectFailed) as caught:
        await bay.connect()
    for hint in hints:
        assert hint in str(caught.value)
    return caught.value


async def test_values_travel_over_tls(make_either, certified, prefix):
    bay = await make_either(certified.url(), prefix=prefix).connect()
    assert await bay.execute("SET", f"{prefix}k", "v") == b"OK"
    assert await bay.execute("GET", f"{prefix}k") == b"v"
    plain = await make_either(certified.plain).connect()
    assert await plain.execute("GET", f"{prefix}k") == b"v", "it is the same server"
    assert b"default" in await bay.execute("ACL", "WHOAMI")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_name_and_an_address_are_both_checked(make_either, certified, host):
    assert await (await make_either(certified.url(host)).connect()).execute("PING") == b"PONG"


async def test_an_authority_that_did_not_sign_is_refused(make_either, certified, stranger):
    await refused(
        make_either(certified.url(tls_ca=stranger[0])), f"localhost:{certified.port}", "CERTIFICATE_VERIFY_FAILED", "REDIS_TLS_CA"
    )
    await refused(make_either(certified.url(tls_ca=None)), "CERTIFICATE_VERIFY_FAILED", "REDIS_TLS_CA")


async def test_another_name_is_refused_with_what_to_do(make_either, elsewhere):
    for host in ("localhost", "127.0.0.1"):
        await refused(make_either(elsewhere.url(host)), "CERTIFICATE_VERIFY_FAILED", host, "REDIS_TLS_SERVER_NAME")


async def test_the_name_on_the_certificate_may_be_given(make_either, elsewhere):
    assert await (await make_either(elsewhere.url(tls_server_name="cache.example")).connect()).execute("PING") == b"PONG"
    await refused(make_either(elsewhere.url(tls_server_name="other.example")), "other.example", "REDIS_TLS_SERVER_NAME")


async def test_insecure_settings_do_what_they_say_and_no_more(make_either, elsewhere, stranger):
    no_name, nothing = "insecure-no-hostname", "insecure-none"
    assert await (await make_either(elsewhere.url(tls_verify=no_name)).connect()).execute("PING") == b"PONG"
    await refused(make_either(elsewhere.url(tls_verify=no_name, tls_ca=stranger[0])), "CERTIFICATE_VERIFY_FAILED")
    await refused(make_either(elsewhere.url(tls_verify=no_name, tls_ca=None)), "CERTIFICATE_VERIFY_FAILED")
    for authority in (stranger[0], None):
        assert await (await make_either(elsewhere.url(tls_verify=nothing, tls_ca=authority)).connect()).execute("PING") == b"PONG"
    await refused(make_either(elsewhere.url(tls_verify="full")), "CERTIFICATE_VERIFY_FAILED")


async def test_a_client_certificate_opens_the_door(make_either, strict):
    certificate, key = strict.client
    bay = await make_either(strict.url(tls_cert=certificate, tls_key=key)).connect()
    assert await bay.execute("PING") == b"PONG"


async def test_without_a_client_certificate_the_door_stays_shut(make_either, strict, stranger):
    error = await refused(make_either(strict.url()), f"localhost:{strict.port}")
    assert "REDIS_TLS_CERT" in str(error) or "certificate required" in str(error).lower()
    certificate, key = stranger[1]
    await refused(make_either(strict.url(tls_cert=certificate, tls_key=key)), f"localhost:{strict.port}")


@pytest.mark.parametrize("options", [{"tls_ca": "nowhere.pem"}, {"tls_cert": "nowhere.pem"}, {"tls_key": "{cert}", "tls_cert": "{ca}"}])
async def test_a_file_that_is_none_is_named(make_either, certified, options):
    names = {name: value.format(cert=certified.client[0], ca=certified.ca) for name, value in options.items()}
    await refused(make_either(certified.url(**names)), "TLS cannot be set up", "REDIS_TLS_", *names.values())


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_both_versions_are_spoken(make_either, certified, version):
    admin = await make_either(certified.plain).connect()
    await admin.execute("CONFIG", "SET", "tls-protocols", version)
    try:
        bay = await make_either(certified.url()).connect()
        assert await bay.execute("ECHO", LARGE) == LARGE
    finally:
        await admin.execute("CONFIG", "SET", "tls-protocols", "")


class TlsPeer(Peer):
    """A peer behind TLS; it notes the names that clients ask for, and the version."""

    def __init__(self, script, authority, *, oldest=ssl.TLSVersion.TLSv1_2, newest=ssl.TLSVersion.MAXIMUM_SUPPORTED):
        self.names = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the old versions are what one test is about
            self.context.minimum_version, self.context.maximum_version = oldest, newest
        self.context.set_ciphers("DEFAULT@SECLEVEL=0")  # else OpenSSL itself would refuse what is old
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.context)
        self.context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        super().__init__(script)

    def _serve(self, connection):
        at = self.connections.index(connection)
        with contextlib.suppress(OSError):
            self.connections[at] = self.context.wrap_socket(connection, server_side=True)
            super()._serve(self.connections[at])


@contextlib.contextmanager
def tls_peer(script, authority, **options):
    one = TlsPeer(script, authority, **options)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.parametrize(
    ("host", "options", "name"),
    [
        ("localhost", {}, "localhost"),
        ("127.0.0.1", {}, None),
        ("127.0.0.1", {"tls_server_name": "localhost"}, "localhost"),
        ("127.0.0.1", {"tls_server_name": "cache.example", "tls_verify": "insecure-no-hostname"}, "cache.example"),
        ("localhost", {"tls_verify": "insecure-none"}, "localhost"),
    ],
)
async def test_the_name_is_sent(make_either, certified, host, options, name):
    with tls_peer(lambda command: b"+OK\r\n", certified.authority) as other:
        settings = Settings.from_url(f"rediss://{host}:{other.port}?min_idle=1", {}).replace(tls_ca=certified.ca, **options)
        assert await (await make_either(settings=settings).connect()).execute("GET", "k") == b"OK"
        assert other.names == [name]


async def test_nothing_older_than_tls_1_2_is_spoken(make_either, certified):
    with tls_peer(lambda command: b"", certified.authority, oldest=ssl.TLSVersion.TLSv1, newest=ssl.TLSVersion.TLSv1_1) as other:
        bay = make_either(f"rediss://localhost:{other.port}?tls_ca={certified.ca}&tls_verify=insecure-none&dial_timeout=2s")
        await refused(bay, "TLSV1_ALERT_PROTOCOL_VERSION")


async def test_plain_words_on_a_tls_port_are_explained(make_either, certified):
    began = time.monotonic()
    await refused(make_either(f"redis://localhost:{certified.port}?dial_timeout=2s"), f"localhost:{certified.port}", "rediss://")
    assert time.monotonic() - began < 2.5


async def test_tls_on_a_plain_port_is_explained(make_either, certified):
    plain = certified.plain.removeprefix("redis://").removesuffix("/0")
    began = time.monotonic()
    await refused(make_either(f"rediss://{plain}?tls_ca={certified.ca}&dial_timeout=1s"), plain, "TLS")
    assert time.monotonic() - began < 2.0


async def test_large_values_and_pipelines(make_either, certified, prefix):
    bay = await make_either(certified.url()).connect()
    await bay.execute("SET", f"{prefix}large", LARGE)
    assert await bay.execute("GET", f"{prefix}large") == LARGE
    replies = await bay.pipeline([("ECHO", b"%d" % number + LARGE) for number in range(8)])
    assert replies == [b"%d" % number + LARGE for number in range(8)]
    assert await bay.pipeline([("ECHO", number) for number in range(5000)]) == [b"%d" % number for number in range(5000)]
    assert await bay.transaction([("ECHO", LARGE), ("GET", f"{prefix}large")]) == [LARGE, LARGE]


async def test_who_reads_no_more_before_it_is_read_is_read(make_either, certified):
    """A proxy that holds one reply until somebody takes it must not lock up with us: much is sent, and read meanwhile."""
    with tls_peer(lambda command: b"$%d\r\n%b\r\n" % (len(LARGE) // 2, LARGE[: len(LARGE) // 2]), certified.authority) as other:
        bay = make_either(f"rediss://localhost:{other.port}?tls_ca={certified.ca}&read_timeout=10s&write_timeout=10s")
        replies = await bay.pipeline([("SET", number, LARGE[: 1 << 18]) for number in range(64)])
        assert {len(reply) for reply in replies} == {len(LARGE) // 2}


async def test_64_callers_get_their_own(make_either, certified, prefix):
    bay = await make_either(certified.url(pool_size=16)).connect()

    async def work(caller):
        for turn in range(20):
            name = f"{prefix}{caller}:{turn}"
            await bay.execute("SET", name, f"value of {name}")
            assert await bay.execute("GET", name) == f"value of {name}".encode()
        return caller

    assert await finished(*(start(bay, work(caller)) for caller in range(64))) == list(range(64))


@pytest.fixture
def stopped(certified):
    """Stops the server's process at the call; it goes on after the test."""
    with Forebay(certified.plain) as admin:
        pid = int(admin.execute("INFO", "server").decode().partition("process_id:")[2].split()[0])
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(("timeout", "most"), [(None, 1.2), ("200ms", 0.9)])
async def test_deadlines_hold_when_the_server_hangs(make_either, certified, stopped, timeout, most):
    """Neither the read timeout nor a call's own time is stretched to the write timeout, which is ten times as long."""
    bay = await make_either(certified.url(read_timeout="500ms", write_timeout="5s", min_idle=1)).connect()
    assert await bay.execute("PING") == b"PONG"
    stopped()
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await bay.execute("SET", "k", "v", timeout=timeout)
    assert time.monotonic() - began < most


async def test_dialling_a_server_that_hangs_ends_in_time(make_either, certified, stopped):
    stopped()
    began = time.monotonic()
    await refused(make_either(certified.url(dial_timeout="500ms")), f"localhost:{certified.port}", "no answer within 0.5 s")
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("same_time", [False, True], ids=["newer", "of the same time"])
async def test_replaced_files_count_at_the_next_connection(make_either, strict, stranger, tmp_path, same_time):
    """Also where all files have one and the same time, as in images that are built to be reproduced."""
    certificate, key = (str(tmp_path / name) for name in ("mine.pem", "mine.key"))

    def put(pair):
        for source, target in zip(pair, (certificate, key), strict=True):
            shutil.copy(source, f"{target}.new")
            if same_time:
                os.utime(f"{target}.new", ns=(1_000_000_000, 1_000_000_000))
            os.replace(f"{target}.new", target)

    put(stranger[1])
    bay = make_either(strict.url(tls_cert=certificate, tls_key=key), required=False)
    with pytest.raises(ConnectFailed):
        await bay.execute("PING", timeout="300ms")
    put(strict.client)
    assert await served_again(lambda: bay.execute("PING")) == b"PONG"
