"""The first words on a connection and whose they are: each refusal has its remedy, passwords are asked for anew and shown nowhere."""

from __future__ import annotations

import contextlib
import logging
import socket

import pytest

from forebay import ConnectFailed, EmbeddedServer, Forebay, ServerError, Settings
from forebay.events import NameRefused, Reporter, TrackingRefused
from forebay.wire.credentials import Credentials, credentials_of, sentinel_credentials_of
from forebay.wire.handshake import Handshake
from forebay.wire.latency import Latencies
from forebay.wire.node import Setup
from tests.peer import Close, Peer, peer
from tests.servers import Line

SECRET = "hunter2"
OK, PONG, HELLO = b"OK", b"PONG", {b"server": b"valkey", b"proto": 3}
NOBODY = Credentials("default", None)
SOMEBODY = Credentials("app", SECRET)
SETTINGS = Settings.from_url("redis://app@cache", {})


def setup_of(settings: Settings) -> Setup:
    return Setup(settings, Reporter(), Latencies(), None)


def told(error: BaseException | None) -> str:
    """Everything that can be printed of *error* and of what a traceback shows behind it."""
    parts: list[str] = []
    while error is not None:
        parts += [str(error), repr(error), repr(error.args), repr(getattr(error, "__notes__", []))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(parts)


@pytest.mark.parametrize(
    ("handshake", "expected"),
    [
        (Handshake(NOBODY), [("HELLO", 3), "name", ("SELECT", 0), ("PING",)]),
        (Handshake(NOBODY, tracks=True), [("HELLO", 3), "name", ("CLIENT", "TRACKING", "ON", "OPTIN"), ("SELECT", 0), ("PING",)]),
        (Handshake(SOMEBODY, 4), [("HELLO", 3, "AUTH", "app", SECRET), "name", ("SELECT", 4), ("PING",)]),
        (Handshake(NOBODY, role="primary"), [("HELLO", 3), "name", ("SELECT", 0), ("PING",), ("ROLE",)]),
        (Handshake(NOBODY, role="replica"), [("HELLO", 3), "name", ("SELECT", 0), ("PING",), ("ROLE",)]),
        (Handshake(NOBODY, role="cluster-replica"), [("HELLO", 3), "name", ("SELECT", 0), ("PING",), ("READONLY",)]),
        (Handshake(SOMEBODY, role="sentinel"), [("HELLO", 3, "AUTH", "app", SECRET), "name", ("PING",)]),
    ],
)
def test_what_is_said(handshake, expected):
    assert handshake.commands() == [("CLIENT", "SETNAME", "forebay") if command == "name" else command for command in expected]


def check(handshake, *replies):
    unnamed = []
    handshake.check(list(replies), "cache:6379", lambda kind, error: unnamed.append((kind, error)))
    return unnamed


def test_what_may_be_heard():
    assert check(Handshake(NOBODY), HELLO, OK, OK, PONG) == []
    assert check(Handshake(NOBODY, role="primary"), HELLO, OK, OK, PONG, [b"master", 0, []]) == []
    assert check(Handshake(NOBODY, role="replica"), HELLO, OK, OK, PONG, [b"slave", b"h", 1, b"connected", 0]) == []
    assert check(Handshake(NOBODY, role="cluster-replica"), HELLO, OK, OK, PONG, OK) == []
    assert check(Handshake(NOBODY, role="sentinel"), HELLO, OK, PONG) == []
    refusal = ServerError("NOPERM no permission for 'client|setname'")
    assert check(Handshake(NOBODY), HELLO, refusal, OK, PONG) == [(NameRefused, refusal)]
    assert check(Handshake(NOBODY, tracks=True), HELLO, OK, refusal, OK, PONG) == [(TrackingRefused, refusal)]
    assert check(Handshake(NOBODY, tracks=True), HELLO, OK, OK, OK, PONG) == []


@pytest.mark.parametrize(
    ("handshake", "replies", "hints"),
    [
        (Handshake(SOMEBODY), [ServerError("WRONGPASS invalid"), OK, OK, PONG], ["wrong password for user 'app'", "REDIS_PASSWORD", "URL"]),
        (Handshake(SOMEBODY, role="sentinel"), [ServerError("WRONGPASS invalid"), OK, PONG], ["REDIS_SENTINEL_PASSWORD"]),
        (Handshake(NOBODY), [ServerError("NOAUTH HELLO must be"), OK, OK, PONG], ["none is configured here", "REDIS_PASSWORD"]),
        (Handshake(NOBODY, role="sentinel"), [ServerError("NOAUTH no"), OK, PONG], ["none is configured", "REDIS_SENTINEL_PASSWORD"]),
        (Handshake(SOMEBODY), [ServerError("ERR AUTH called without any password configured"), OK, OK, PONG], ["it expects none", "unset"]),
        (Handshake(NOBODY), [ServerError("ERR unknown command 'HELLO'"), OK, OK, PONG], ["RESP3", "Redis 7.0"]),
        (Handshake(NOBODY), [ServerError("NOPROTO unsupported"), OK, OK, PONG], ["RESP3", "Valkey 8"]),
        (Handshake(NOBODY), [ServerError("NOPERM no permission for 'hello'"), OK, OK, PONG], ["NOPERM"]),
        (Handshake(NOBODY), [ServerError("LOADING in memory"), OK, OK, PONG], ["LOADING"]),
        (Handshake(NOBODY, 20), [HELLO, OK, ServerError("ERR DB index is out of range"), PONG], ["no database 20", "REDIS_DB"]),
        (Handshake(NOBODY), [HELLO, OK, OK, ServerError("LOADING in memory")], ["up but does not serve: LOADING"]),
        (Handshake(NOBODY, role="cluster-replica"), [HELLO, OK, OK, PONG, ServerError("ERR cluster support disabled")], ["does not serve"]),
        (Handshake(NOBODY, role="primary"), [HELLO, OK, OK, PONG, [b"slave", b"h", 1]], ["is not a primary now"]),
        (Handshake(NOBODY, role="primary"), [HELLO, OK, OK, PONG, [b"sentinel", []]], ["is not a primary now"]),
        (Handshake(NOBODY, role="primary"), [HELLO, OK, OK, PONG, None], ["is not a primary now"]),
        (Handshake(NOBODY, role="replica"), [HELLO, OK, OK, PONG, [b"master", 0, []]], ["is not a replica now"]),
    ],
)
def test_each_refusal_says_what_to_do(handshake, replies, hints):
    with pytest.raises(ConnectFailed) as caught:
        check(handshake, *replies)
    for hint in ["cache:6379", *hints]:
        assert hint in str(caught.value)
    assert SECRET not in told(caught.value)


def test_a_server_that_is_full_is_not_taken_for_an_old_one():
    with pytest.raises(ConnectFailed, match="max number of clients") as caught:
        check(Handshake(NOBODY), ServerError("ERR max number of clients reached"), OK, OK, PONG)
    assert "RESP3" not in str(caught.value)


def test_a_database_that_may_not_be_chosen_is_not_one_that_is_missing():
    with pytest.raises(ConnectFailed, match="NOPERM") as caught:
        check(Handshake(NOBODY), HELLO, OK, ServerError("NOPERM this user has no permissions to run the 'select' command"), PONG)
    assert "set REDIS_DB" not in str(caught.value)


@pytest.mark.parametrize("last", [b"-ERR max number of clients reached\r\n", b"-DENIED running in protected mode\r\n"])
async def test_a_server_that_hangs_up_with_a_word_is_quoted(make_either, last):
    """A server that is full, or in protected mode, speaks before it is asked."""

    class Full(Peer):
        def _serve(self, connection):
            with contextlib.suppress(OSError):  # the end of the test may be quicker
                connection.sendall(last)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

    full = Full(lambda command: b"")
    try:
        with pytest.raises(ConnectFailed, match=last.decode().split()[1]):
            await make_either(full.url).connect()
    finally:
        full.close()


async def test_a_real_server_that_is_full_says_so(make_either):
    with EmbeddedServer(port=0, options=["--maxclients", "2"]) as server:
        lines = [Line(server.address().port) for _ in range(2)]
        assert [line.call("PING") for line in lines] == ["PONG", "PONG"]
        with pytest.raises(ConnectFailed, match="max number of clients"):
            await make_either(server.url).connect()
        for line in lines:
            line.close()


# whose connection it is


def test_a_password_of_the_settings():
    assert credentials_of(Settings.from_url(f"redis://app:{SECRET}@h", {})) == Credentials("app", SECRET)
    assert credentials_of(Settings.from_url(f"redis://:{SECRET}@h", {})) == Credentials("default", SECRET)
    assert credentials_of(Settings()) == NOBODY
    both = Settings(sentinel_username="watch", sentinel_password=SECRET, password="other")
    assert sentinel_credentials_of(both) == Credentials("watch", SECRET)
    assert sentinel_credentials_of(Settings(password=SECRET)) == NOBODY


def test_a_function_is_asked_for_each_handshake_and_for_no_sentinel():
    answers = iter(["first", "second"])
    setup = setup_of(SETTINGS.replace(password=lambda: next(answers)))
    assert setup.slow_credentials
    assert setup.handshake("sentinel").credentials == NOBODY
    assert [setup.handshake("any").commands()[0][-1] for _ in range(2)] == ["first", "second"]


def failing():
    raise RuntimeError("the vault is sealed")


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (failing, "failed with RuntimeError"),
        (lambda: None, "NoneType"),
        (lambda: "", "no"),
        (lambda: SECRET.encode(), "bytes"),
        (lambda: 7, "int"),
    ],
)
def test_a_function_without_a_password_fails_the_connection(function, hint):
    with pytest.raises(ConnectFailed, match=f"function that supplies the password.*{hint}") as caught:
        credentials_of(SETTINGS.replace(password=function))
    assert SECRET not in told(caught.value)


@pytest.mark.parametrize("made_of", [SECRET, f"{SECRET}\n", f"{SECRET}\r\n", f"{SECRET}\n\n", f"{SECRET}\nsecond line\n"])
def test_a_file_is_read_up_to_the_end_of_its_first_line(tmp_path, made_of):
    file = tmp_path / "password"
    file.write_bytes(made_of.encode())
    assert credentials_of(SETTINGS.replace(password_file=str(file))) == SOMEBODY


@pytest.mark.parametrize("password", ["pass word ", "\tx", "p\x0bq", "p\x0cq", "p\x85q", "p\u2028q", "p\x1eq", "пароль", "ﬀ"])
def test_only_the_end_of_a_line_ends_a_password(tmp_path, password):
    file = tmp_path / "password"
    file.write_bytes(password.encode() + b"\n")
    assert credentials_of(SETTINGS.replace(password_file=str(file))).password == password


def test_a_file_is_read_anew_each_time(tmp_path):
    file = tmp_path / "password"
    setup = setup_of(SETTINGS.replace(password_file=str(file)))
    for password in ("first", "second", "third"):
        file.write_text(password)
        assert setup.handshake("primary").credentials.password == password


@pytest.mark.parametrize("made_of", [None, b"", b"\n", b"\r\n\r\n", SECRET.encode() + b"\xff", "directory"])
def test_a_file_without_a_password_fails_the_connection(tmp_path, made_of):
    file = tmp_path / "password"
    if made_of == "directory":
        file.mkdir()
    elif made_of is not None:
        file.write_bytes(made_of)
    with pytest.raises(ConnectFailed, match=r"REDIS_PASSWORD_FILE='.*password'") as caught:
        credentials_of(SETTINGS.replace(password_file=str(file)))
    assert SECRET not in told(caught.value)


def test_a_password_that_cannot_be_sent_is_shown_nowhere():
    """The environment brings bytes that are no UTF-8 as lone surrogates."""
    settings = Settings.from_env({"REDIS_HOST": "127.0.0.1", "REDIS_PASSWORD": f"{SECRET}\udcff"})
    with (
        peer(lambda command: b"+OK\r\n") as server,
        Forebay(settings=settings.replace(hosts=(("127.0.0.1", server.port),)), required=False) as bay,
    ):
        with pytest.raises(ConnectFailed) as caught:
            bay.execute("GET", "k")
        assert SECRET not in told(caught.value)


def parts_of(thing, seen):
    """Everything of this package that can be reached from *thing*."""
    if id(thing) in seen or isinstance(thing, str | bytes | int | float | type(None)):
        return
    seen[id(thing)] = thing
    inner = list(getattr(thing, "__dict__", {}).values()) if not isinstance(thing, type) else []
    inner += [
        getattr(thing, slot, None) for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ()) if slot != "__weakref__"
    ]
    inner += [getattr(thing, field) for field in getattr(thing, "__struct_fields__", ())]
    if isinstance(thing, dict):
        inner += list(thing.values())
    elif isinstance(thing, list | tuple | set | frozenset):
        inner += list(thing)
    for part in inner:
        parts_of(part, seen)


async def test_no_part_of_a_bay_shows_its_password(make_either, caplog):
    caplog.set_level(logging.DEBUG)
    events = []
    greeting = {b"HELLO": b"%1\r\n+proto\r\n:3\r\n"}

    def script(command):
        if command[0] == b"DROP":
            raise Close
        return b"+OK\r\n"

    with peer(script) as server:
        server.greeting.update(greeting)
        for where in (f"redis://app:{SECRET}@127.0.0.1:{server.port}", f"redis://127.0.0.1:{server.port}?sentinel_password={SECRET}"):
            bay = await make_either(where, on_event=events.append).connect()
            assert await bay.execute("GET", "k") == b"OK"
            with pytest.raises(Exception, match="lost") as caught:
                await bay.execute("DROP", "k")
            seen = {}
            parts_of(getattr(bay, "wrapped", bay), seen)
            ours = [part for part in seen.values() if type(part).__module__.startswith("forebay")]
            assert len(ours) > 10
            assert not [type(part) for part in ours if SECRET in f"{part!r} {part}"]
            rich = [list(part.__rich_repr__()) for part in ours if hasattr(part, "__rich_repr__")]  # what rich and its tracebacks print
            assert SECRET not in repr(rich)
            assert SECRET not in told(caught.value)
    assert events
    assert SECRET not in repr(events) + "".join(event.describe() + told(event.cause) for event in events) + caplog.text


@pytest.mark.parametrize(
    "thing", [SOMEBODY, Handshake(SOMEBODY), setup_of(Settings(password=SECRET, sentinel_password=SECRET)).handshake("any")]
)
def test_a_password_is_no_part_of_any_representation(thing):
    shown = [repr(thing), str(thing), f"{thing}", repr(list(thing.__rich_repr__()) if hasattr(thing, "__rich_repr__") else [])]
    assert SECRET not in "\n".join(shown)
