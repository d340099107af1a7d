"""Opening a bay: addresses, accounts, prefixes, and what is said when it cannot be opened."""

import contextlib
import math
import socket

import pytest

from forebay import AsyncForebay, ConnectFailed, EmbeddedServer, InvalidNamespace, ServerStartFailed, Settings
from tests.patience import served_again


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_ping_measures(either):
    assert 0 < await either.ping() < 1


async def test_execute_sends_any_command_as_it_is(either, prefix):
    assert await either.execute("SET", f"{prefix}raw", b"\x00\xff", "PX", 60_000) == b"OK"
    assert await either.execute("GET", f"{prefix}raw") == b"\x00\xff"
    assert await either.execute("OBJECT", "ENCODING", f"{prefix}raw") == b"embstr"
    assert await either.execute("HELLO") == {**await either.execute("HELLO"), b"proto": 3}


async def test_connections_are_named(either):
    assert b"name=forebay" in await either.execute("CLIENT", "INFO")


async def test_two_prefixes_on_one_server_never_meet(make_either, url, prefix):
    one, other = make_either(url, prefix=f"{prefix}a:"), make_either(url, prefix=f"{prefix}b:")
    mine, theirs = one.cache("user", ttl=60), other.cache("user", ttl=60)
    await mine.set(1, "mine")
    await theirs.set(1, "theirs")
    assert await mine.get(1) == "mine"
    assert await theirs.clear() == 1
    assert await mine.get(1) == "mine"
    assert await one.execute("EXISTS", f"{prefix}a:user:1") == 1


def test_a_bad_prefix_is_refused(url):
    with pytest.raises(InvalidNamespace):
        AsyncForebay(url, prefix="{tag}:")


async def test_an_absent_server_is_an_error_with_host_port_and_cause(make_either):
    port = free_port()
    bay = make_either(f"redis://127.0.0.1:{port}")
    with pytest.raises(ConnectFailed, match=rf"cannot connect to 127\.0\.0\.1:{port}: .*(refused|Connect call failed)"):
        await bay.connect()
    with pytest.raises(ConnectFailed, match=r"cannot connect to unix:///nowhere/redis\.sock: .*No such file"):
        await make_either("unix:///nowhere/redis.sock").connect()
    with pytest.raises(ConnectFailed, match=r"no-such-host\.invalid:6379"):
        await make_either("redis://no-such-host.invalid").connect()


async def test_not_required_starts_without_the_server_and_finds_it_later(make_either, prefix):
    port = free_port()
    bay = await make_either(f"redis://127.0.0.1:{port}", required=False, prefix=prefix).connect()
    with pytest.raises(ConnectFailed):
        await bay.ping()
    with EmbeddedServer(port=port):
        assert await served_again(bay.ping) > 0


async def test_a_server_that_never_answers_the_dial_is_given_up(make_either):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        bay = make_either(f"redis://127.0.0.1:{mute.getsockname()[1]}?dial_timeout=200ms")
        with pytest.raises(ConnectFailed, match=r"no answer within 0\.2 s|did not answer in time"):
            await bay.connect()


async def test_unix_sockets(make_either):
    with EmbeddedServer() as server:
        assert server.url.startswith("unix:///")
        bay = await make_either(server.url).connect()
        assert await bay.cache("user", ttl=5).get_or_set(1, lambda: 2) == 2


async def test_a_database_is_selected_on_every_connection(make_either, url, prefix):
    bay = make_either(url.replace("/0", "/3"), prefix=prefix)
    await bay.cache("user", ttl=60).set(1, "three")
    assert b"db=3" in await bay.execute("CLIENT", "INFO")
    with pytest.raises(ConnectFailed, match=r"no database 999.*REDIS_DB"):
        await make_either(url.replace("/0", "/999")).connect()


@pytest.fixture(scope="module")
def guarded():
    with EmbeddedServer(port=0, options=["--requirepass", "hunter2"]) as server:
        yield server


def with_user(server, userinfo):
    return server.url.replace("redis://", f"redis://{userinfo}@")


async def test_accounts(make_either, guarded):
    bay = await make_either(with_user(guarded, ":hunter2")).connect()
    with contextlib.suppress(Exception):
        await bay.execute("ACL", "SETUSER", "app", "on", ">p@ss/word", "~*", "+@all")
    app = await make_either(with_user(guarded, "app:p%40ss%2Fword")).connect()
    assert await app.execute("ACL", "WHOAMI") == b"app"
    assert "hunter2" not in repr(bay)


async def test_a_wrong_or_missing_password_is_explained_and_not_shown(make_either, guarded, caplog):
    with pytest.raises(
        ConnectFailed, match=r"wrong password for user 'default' \(WRONGPASS\); set REDIS_USERNAME and REDIS_PASSWORD"
    ) as caught:
        await make_either(with_user(guarded, ":wr0ngpw")).connect()
    chain, shown = caught.value, ""
    while chain is not None:
        shown += repr(chain) + str(chain)
        chain = chain.__cause__ or chain.__context__
    assert "wr0ngpw" not in shown + caplog.text
    with pytest.raises(ConnectFailed, match="set or unset REDIS_PASSWORD"):
        await make_either(guarded.url).connect()


async def test_an_unknown_user_is_explained(make_either, url):
    with pytest.raises(ConnectFailed, match="wrong password for user 'nobody'") as caught:
        await make_either(url.replace("redis://", "redis://nobody:s3cret@")).connect()
    assert "s3cret" not in str(caught.value)


async def test_the_environment_is_read(make_either, server, monkeypatch):
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", str(server.address().port))
    assert await make_either().ping() > 0
    monkeypatch.setenv("REDIS_URL", server.url.replace("/0", "/1"))
    bay = make_either()
    assert await bay.ping() > 0
    assert repr(bay).endswith("/1')") or "/1'" in repr(getattr(bay, "wrapped", bay))


async def test_settings_and_url_together_are_refused(make_either, url):
    with pytest.raises(TypeError, match="not both"):
        make_either(url, settings=Settings())
    assert await make_either(settings=Settings.from_url(url)).ping() > 0


async def test_embedded_is_a_private_server_that_ends_with_the_bay(make_either):
    one, other = await make_either("embedded://").connect(), await make_either("embedded://").connect()
    await one.cache("user", ttl=60).set(1, "mine")
    assert await other.cache("user", ttl=60).get(1) is None
    path = getattr(one, "wrapped", one)._embedded.address().path
    await one.close()
    with pytest.raises(OSError, match="No such file"), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)


async def test_an_embedded_server_that_cannot_start_says_why(make_either, monkeypatch):
    monkeypatch.setenv("FOREBAY_SERVER", "/nowhere/valkey-server")
    with pytest.raises(ServerStartFailed, match="FOREBAY_SERVER='/nowhere/valkey-server' is not an executable file"):
        await make_either("embedded://").connect()


async def test_stats_of_a_bay(either):
    cache = either.cache("user", ttl=60)
    await cache.get_or_set(1, lambda: 1)
    await cache.get(1)
    stats = either.stats()
    assert (stats.caches["user"].hits, stats.caches["user"].misses, stats.caches["user"].loads) == (1, 1, 1)
    assert stats.wire.connections >= 1
    assert stats.reported == {}
    assert stats.caches["user"].hit_rate == 0.5
    assert await cache.ttl(2) != math.inf
