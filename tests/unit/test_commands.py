"""The tables of commands against a real server: where the keys are, what only reads, what blocks; and what may share a connection."""

from __future__ import annotations

import enum
import math

import pytest

from forebay import CrossSlot, Forebay, InvalidCommand, ServerError
from forebay.wire import commands as tables
from forebay.wire.commands import blocks_for, check_shared, keys_of, name_of, traits_of
from forebay.wire.slots import common_slot

NO_KEYS = "has no key"  # the server's complaint

# Every command of the tables, in each shape that its arguments may have. The server says where the keys are.
SHAPES = """
GET k|SET k v EX 1|APPEND k v|STRLEN k|GETRANGE k 0 1|SUBSTR k 0 1|GETBIT k 1|BITCOUNT k 0 1 BIT|BITPOS k 1|BITFIELD_RO k GET u8 0
INCR k|GETEX k PERSIST|GETDEL k|SETEX k 1 v|BITFIELD k SET u8 0 1|DUMP k|RESTORE k 0 x|TYPE k|TTL k|PTTL k|EXPIRETIME k|PEXPIRETIME k
EXPIRE k 1|PEXPIRE k 1 NX|PERSIST k|MOVE k 1|LCS k1 k2|LCS k1 k2 LEN
DEL k|DEL k1 k2 k3|UNLINK k1 k2|EXISTS k|EXISTS k k|TOUCH k1 k2|MGET k1 k2 k3|PFCOUNT k1 k2|PFADD k v|PFMERGE d k1 k2|WATCH k1 k2
MSET k1 v1|MSET k1 v1 k2 v2|MSETNX k1 v1 k2 v2|RENAME a b|RENAMENX a b|COPY a b|COPY a b DB 1 REPLACE|SMOVE a b v
BITOP AND d k1 k2|BITOP NOT d k
HGET k f|HSET k f v|HMGET k f g|HGETALL k|HKEYS k|HVALS k|HLEN k|HEXISTS k f|HSTRLEN k f|HSCAN k 0|HRANDFIELD k|HDEL k f|HINCRBY k f 1
LINDEX k 0|LLEN k|LPOS k v|LRANGE k 0 1|LPUSH k v|LPOP k 2|LMOVE a b LEFT RIGHT|RPOPLPUSH a b|LMPOP 2 a b LEFT COUNT 3
BLPOP k 0|BLPOP k1 k2 0.5|BRPOP k1 k2 1|BRPOPLPUSH a b 1|BLMOVE a b LEFT RIGHT 1|BLMPOP 1 2 a b LEFT|BLMPOP 0 1 a RIGHT COUNT 2
SCARD k|SISMEMBER k v|SMISMEMBER k v w|SMEMBERS k|SRANDMEMBER k|SSCAN k 0|SADD k v|SPOP k
SDIFF a b|SINTER a b|SUNION a b|SDIFFSTORE d a b|SINTERSTORE d a b|SUNIONSTORE d a b|SINTERCARD 2 a b LIMIT 1
ZADD k 1 v|ZCARD k|ZCOUNT k 0 1|ZLEXCOUNT k - +|ZSCORE k v|ZMSCORE k v w|ZRANK k v|ZREVRANK k v|ZRANDMEMBER k|ZSCAN k 0
ZRANGE k 0 1|ZRANGEBYLEX k - +|ZRANGEBYSCORE k 0 1|ZREVRANGE k 0 1|ZREVRANGEBYLEX k + -|ZREVRANGEBYSCORE k 1 0|ZRANGESTORE d k 0 1
ZDIFF 2 a b|ZINTER 2 a b WEIGHTS 1 2|ZUNION 1 a WITHSCORES|ZINTERCARD 2 a b|ZDIFFSTORE d 2 a b|ZINTERSTORE d 2 a b|ZUNIONSTORE d 1 a
ZMPOP 2 a b MIN|BZMPOP 1 2 a b MAX COUNT 2|BZPOPMIN a b 1|BZPOPMAX a 1|ZPOPMIN k
GEOADD k 1 1 v|GEODIST k a b|GEOHASH k a|GEOPOS k a|GEOSEARCH k FROMMEMBER a BYRADIUS 1 m|GEOSEARCHSTORE d k FROMMEMBER a BYRADIUS 1 m
GEORADIUS_RO k 1 1 1 m|GEORADIUSBYMEMBER_RO k a 1 m|SORT_RO k|SORT k LIMIT 0 1
XADD k * f v|XLEN k|XRANGE k - +|XREVRANGE k + -|XPENDING k g|XPENDING k g - + 1 c|XACK k g 1|XTRIM k MAXLEN 1
XINFO STREAM k FULL|XINFO GROUPS k|XINFO CONSUMERS k g|XGROUP CREATE k g $|XGROUP DESTROY k g|XCLAIM k g c 1 1-1|XAUTOCLAIM k g c 1 0
XREAD STREAMS k 0|XREAD COUNT 2 BLOCK 0 STREAMS a b 0 0|XREAD streams a b c 1 2 3|XREAD STREAMS streams 0|XREAD STREAMS block count 0 0
XREADGROUP GROUP g c STREAMS a b > >|XREADGROUP GROUP g c COUNT 1 BLOCK 5 NOACK STREAMS a >
XREADGROUP GROUP streams c STREAMS a >|XREADGROUP GROUP g streams COUNT 1 STREAMS a b > >|XREADGROUP GROUP block noack STREAMS streams >
OBJECT ENCODING k|OBJECT FREQ k|OBJECT IDLETIME k|OBJECT REFCOUNT k|MEMORY USAGE k|MEMORY USAGE k SAMPLES 5
EVAL s 0|EVAL s 0 v|EVAL s 2 a b v|EVAL_RO s 1 a|EVALSHA x 1 a|EVALSHA_RO x 2 a b|FCALL f 1 a v|FCALL_RO f 0
ACL WHOAMI|ASKING|AUTH p|BGREWRITEAOF|BGSAVE|CLIENT ID|CLUSTER INFO|COMMAND COUNT|CONFIG GET x|DBSIZE|DEBUG JMAP|DISCARD|ECHO x|EXEC
FAILOVER|FUNCTION LIST|HELLO 3|INFO server|LASTSAVE|LATENCY RESET|LOLWUT|MODULE LIST|MULTI|PING|PING x|PUBLISH c x|PUBSUB NUMPAT|RANDOMKEY
READONLY|READWRITE|ROLE|SAVE|SCAN 0 MATCH x|SCRIPT EXISTS x|SELECT 1|SHUTDOWN|SLOWLOG GET|SWAPDB 0 1|TIME|UNWATCH|WAIT 1 0
XGROUP HELP|MEMORY STATS|OBJECT HELP|XINFO HELP
"""
NEWER = """
HTTL k FIELDS 1 f|HPTTL k FIELDS 1 f|HEXPIRETIME k FIELDS 1 f|HPEXPIRETIME k FIELDS 1 f|HEXPIRE k 1 FIELDS 1 f
WAITAOF 0 1 5|HGETEX k FIELDS 1 f
"""
# What we leave to the server's redirection: rare, and their first key, or any node, is a fair guess.
INEXACT = frozenset({"MIGRATE", "MSETEX", "PFDEBUG"})
READS_THAT_WE_CALL_WRITES = frozenset({"CLUSTERSCAN", "LOLWUT", "K" + "EYS"})  # the last is not spelt out in this house


def shapes(text):
    return [tuple(shape.split()) for line in text.strip().splitlines() for shape in line.split("|")]


@pytest.fixture(scope="module")
def asked(server):
    with Forebay(server.url) as bay:
        yield bay


@pytest.fixture(scope="module")
def known(asked):
    """What the server says of each command that it knows: its flags, and its subcommands' flags."""
    told = {}
    for name, _, flags, *rest in asked.execute("COMMAND"):
        told[name.decode().upper()] = flags_of(flags), {sub[0].decode().upper(): flags_of(sub[2]) for sub in rest[6]}
    return told


def flags_of(flags):
    return {flag.decode() if isinstance(flag, bytes) else str(flag) for flag in flags}


def keys_by_the_server(bay, command):
    try:
        return bay.execute("COMMAND", "GETKEYS", *command)
    except ServerError as error:
        short = len(command) == 1 and "wrong number of arguments" in str(error)  # Redis 7 does not look at a name alone
        assert short or NO_KEYS in str(error), (command, error)
        return []


def test_every_command_of_the_tables_is_tried():
    listed = set().union(
        tables._READS,
        tables._WITHOUT_KEYS,
        tables._ALL_ARE_KEYS,
        tables._TWO_KEYS,
        tables._KEYS_BEFORE_LAST,
        tables._PAIRS,
        tables._KEY_AT_TWO,
        tables._STREAMS,
        tables._COUNTED_AT,
        tables._BLOCKS,
        {"BITOP"},
    )
    assert listed - {shape[0] for shape in shapes(SHAPES + NEWER.strip())} == set()


@pytest.mark.parametrize("command", shapes(SHAPES), ids=" ".join)
def test_keys_are_where_the_server_says(asked, command):
    assert [key.encode() for key in keys_of(command)] == keys_by_the_server(asked, command)
    as_bytes = tuple(word.encode() for word in command)
    assert list(keys_of(as_bytes)) == keys_by_the_server(asked, command)
    assert list(keys_of((command[0].lower(), *command[1:]))) == list(keys_of(command))


@pytest.mark.parametrize("command", shapes(NEWER), ids=" ".join)
def test_keys_of_newer_commands(asked, known, command):
    expected = [command[1].encode()] if command[0].startswith("H") else []
    assert [key.encode() for key in keys_of(command)] == expected
    if command[0] in known:
        assert keys_by_the_server(asked, command) == expected


def test_the_first_key_of_every_command_of_the_server_is_found(asked, known):
    """Also of those that no table names: they are routed by their first argument."""
    wrong = {}
    for name, _, _, first, *_ in asked.execute("COMMAND"):
        at = traits_of(name).key_at
        if first > 0 and at > 0 and first != at:
            wrong[name.decode().upper()] = (at, first)
    assert set(wrong) <= INEXACT, wrong


@pytest.mark.parametrize(
    "command",
    [
        *shapes("GET|MSET|MGET|EVAL s|EVAL s two a|EVAL s -1|BITOP AND|BLPOP k|ZUNIONSTORE d|OBJECT HELP|LMPOP 99 a"),
        *shapes("XREAD|XREAD STREAMS|XREADGROUP|XREADGROUP GROUP|XREADGROUP GROUP g c"),
        ("EVAL", "s", b"\xff"),
    ],
    ids=str,
)
def test_too_few_arguments_are_the_servers_to_refuse(command):
    assert len(keys_of(command)) <= len(command) - 1


def test_no_command_that_writes_is_among_our_reads(known):
    assert not [name for name in tables._READS if "write" in known.get(name, [()])[0]]
    assert not [subcommand for name in tables._READS for subcommand, flags in known.get(name, [(), {}])[1].items() if "write" in flags]


def test_only_these_reads_are_treated_as_writes(known):
    missing = {name for name, (flags, _) in known.items() if "readonly" in flags and name not in tables._READS}
    assert missing <= READS_THAT_WE_CALL_WRITES
    of_containers = {
        sub for name, (_, subs) in known.items() if name not in tables._READS for sub, flags in subs.items() if "readonly" in flags
    }
    assert of_containers <= {"MEMORY|USAGE"}


def test_reads_that_the_server_does_not_flag_touch_no_data(known):
    unflagged = {name for name in tables._READS if name in known and "readonly" not in known[name][0]}
    assert unflagged <= {"ECHO", "INFO", "OBJECT", "PING", "ROLE", "TIME", "XINFO"}


def test_what_blocks_is_known(known):
    assert {name for name, (flags, _) in known.items() if "blocking" in flags} - {"WAIT", "WAITAOF"} == tables._BLOCKS - {"WAIT", "WAITAOF"}


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (("BLPOP", "k", "0"), math.inf),
        (("BLPOP", "k", 0), math.inf),
        (("BLPOP", "k1", "k2", "0.25"), 0.25),
        (("brpop", "k", b"1e1"), 10.0),
        (("BRPOPLPUSH", "a", "b", 2), 2.0),
        (("BLMOVE", "a", "b", "LEFT", "LEFT", 1.5), 1.5),
        (("BZPOPMIN", "k", memoryview(b"3")), 3.0),
        (("BLMPOP", "4", "1", "k", "LEFT"), 4.0),
        (("BZMPOP", "0", "1", "k", "MIN"), math.inf),
        (("XREAD", "STREAMS", "k", "0"), 0.0),
        (("XREAD", "BLOCK", "0", "STREAMS", "k", "$"), math.inf),
        (("XREAD", "COUNT", "1", "block", "1500", "STREAMS", "k", "$"), 1.5),
        (("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "NOACK", "BLOCK", 250, "STREAMS", "k", ">"), 0.25),
        (("XREADGROUP", "GROUP", "g", "block", "BLOCK", "1000", "STREAMS", "k", ">"), 1.0),
        (("XREADGROUP", "GROUP", "block", "0", "STREAMS", "k", ">"), 0.0),
        (("XREAD", "STREAMS", "block", "0"), 0.0),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "block", "0"), 0.0),
        (("WAIT", "1", "500"), 0.5),
        (("WAITAOF", "0", "1", "0"), math.inf),
        (("GET", "BLOCK", "0"), 0.0),
    ],
)
def test_how_long_the_server_may_keep_a_command(command, seconds):
    assert blocks_for(traits_of(command[0]), command) == seconds


@pytest.mark.parametrize("timeout", ["-1", "soon", "", b"\xff", "nan", "-inf"])
def test_a_timeout_that_the_server_refuses_blocks_for_no_time(asked, timeout):
    command = ("BLPOP", "nothing", timeout)
    assert blocks_for(traits_of("BLPOP"), command) == 0.0
    with pytest.raises(ServerError, match="timeout"):
        asked.execute(*command)


class Verb(str, enum.Enum):  # noqa: UP042 - the kind whose str() is not its value
    MULTI = "MULTI"
    GET = "GET"
    USER = "{u}1"


def spellings(name):
    every = [
        name,
        name.lower(),
        name.title(),
        name.encode(),
        name.lower().encode(),
        memoryview(name.encode()),
        memoryview(bytearray(name, "ascii")),
    ]
    return [*every, Verb[name]] if name in Verb.__members__ else every


@pytest.mark.parametrize("name", ["GET", "MULTI", "XREADGROUP", "CLIENT"])
def test_a_name_is_the_same_in_any_case_as_bytes_or_as_text(name):
    for spelling in spellings(name):
        assert name_of(spelling) == name, repr(spelling)
        assert traits_of(spelling) == traits_of(name)


def test_a_member_of_an_enumeration_of_text_is_what_it_stands_for():
    """It travels as its value, so that is what must be judged and what makes the slot."""
    assert keys_of(("GET", Verb.USER)) == (Verb.USER,)
    assert common_slot([Verb.USER, "{u}2"], "MGET") is not None
    with pytest.raises(InvalidCommand):
        check_shared(traits_of(Verb.MULTI), (Verb.MULTI,), lone=True)


def test_what_is_remembered_of_names_is_bounded():
    for number in range(3 * tables._MOST_REMEMBERED):
        assert traits_of(f"UNHEARD-OF-{number}").key_at == 1
    assert len(tables._seen) <= tables._MOST_REMEMBERED + 1
    assert traits_of("GET").reads


CHANGES = """
SUBSCRIBE c|PSUBSCRIBE c|SSUBSCRIBE c|UNSUBSCRIBE|PUNSUBSCRIBE|SUNSUBSCRIBE|MONITOR|SYNC|PSYNC ? -1|MULTI|EXEC|DISCARD|WATCH k|UNWATCH
HELLO 3|HELLO 2|RESET|QUIT|ASKING|READONLY|READWRITE|SELECT 1|AUTH p|CLIENT REPLY OFF|CLIENT TRACKING ON|CLIENT CACHING YES|CLIENT SETNAME x
CLIENT NO-TOUCH ON|SCRIPT DEBUG YES|REPLCONF ACK 0|REPLCONF GETACK *|CLIENT CAPA redirect
"""


@pytest.mark.parametrize("command", shapes(CHANGES), ids=" ".join)
@pytest.mark.parametrize("lone", [True, False])
def test_what_would_change_the_connection_for_all_is_refused(command, lone):
    for name in (command[0], command[0].lower(), command[0].encode()):
        assert not traits_of(name).plain
        with pytest.raises(InvalidCommand, match=f"^{command[0]} "):
            check_shared(traits_of(name), (name, *(word.lower() for word in command[1:])), lone=lone)


@pytest.mark.parametrize("command", [*shapes("WAIT 1 0|WAITAOF 0 0 0")], ids=" ".join)
def test_waiting_for_replicas_belongs_into_a_pipeline(command):
    check_shared(traits_of(command[0]), command, lone=False)
    with pytest.raises(InvalidCommand, match="pipeline"):
        check_shared(traits_of(command[0]), command, lone=True)


@pytest.mark.parametrize(
    "command", shapes("HELLO|CLIENT ID|CLIENT LIST|CLIENT TRACKINGINFO|CLIENT|GET k|SCRIPT EXISTS x|CLIENT KILL ID 1"), ids=" ".join
)
def test_what_leaves_the_connection_alone_is_let_through(command):
    check_shared(traits_of(command[0]), command, lone=True)
    check_shared(traits_of(command[0]), command, lone=False)
    assert traits_of(command[0]).blocks is False


def test_keys_of_several_slots_are_named():
    with pytest.raises(CrossSlot, match="RENAME has keys in 2 slots .*'a', 'b'"):
        common_slot(keys_of(("RENAME", "a", "b")), "RENAME")
