import logging

import msgspec
import pytest

from forebay import CallbackFailed, FillRefused, Hit, Invalidated, Loaded, LoadFailed, Miss, Operation, Refreshed
from forebay.cache.tally import Tally
from forebay.events import Reporter
from forebay.operations import Listener

RECORDS = [
    Hit("user", "get", 42, near=True),
    Miss("user", "get", 42),
    Loaded("user", "get_or_set", (42,), 0.5),
    Refreshed("user", "refresh", (42,), 0.5),
    LoadFailed("user", "get_or_set", (42,), 0.5, OSError("away")),
    FillRefused("user", "get_or_set", 42),
    Invalidated("user", "delete", (42,), 1),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_frozen_and_shows_what_happened_to_which_key_in_which_namespace(record):
    assert isinstance(record, Operation)
    with pytest.raises(AttributeError):
        record.namespace = "other"
    assert repr(record).startswith(f"{type(record).__name__}(namespace='user', operation='{record.operation}', ")
    assert "42" in repr(record)


def test_no_record_has_room_for_a_value():
    fields = {field for record in RECORDS for field in record.__struct_fields__}
    assert fields == {"namespace", "operation", "key", "near", "stale", "keys", "seconds", "error", "targets", "count"}


def test_records_compare_by_what_they_say():
    assert Hit("user", "get", 42) == Hit("user", "get", 42) != Hit("user", "get", 42, stale=True)
    assert len({Miss("user", "get", 42), Miss("user", "get", 42)}) == 1


def test_a_refresh_is_a_load():
    assert isinstance(RECORDS[3], Loaded)


def test_every_kind_is_public_and_tried_here():
    kinds, queue = set(), [Operation]
    while queue:
        kind = queue.pop()
        queue += kind.__subclasses__()
        kinds.add(kind)
    assert kinds - {Operation} == {type(record) for record in RECORDS}


def test_an_error_of_the_hook_is_reported_with_the_record_and_logged_once_a_second(caplog):
    def hook(record):
        raise ValueError("bad hook")

    events = []
    listener = Listener(hook, Reporter(events.append))
    with caplog.at_level(logging.WARNING, "forebay"):
        for record in RECORDS:
            listener(record)
    assert [(type(event), event.namespace, event.operation, event.key) for event in events] == [
        (CallbackFailed, "user", "on_operation", record) for record in RECORDS
    ]
    assert caplog.messages == ["a callback of cache 'user' failed: bad hook"]


def test_what_ends_a_program_is_not_held_up_by_the_hook():
    def hook(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Listener(hook, Reporter())(RECORDS[0])


def stepped(tally):
    """Step each count of *tally* in its own measure, and return it."""
    tally.hit("get", ["a", "b"], 2)
    tally.hit("get_or_set", ("c",), stale=True)
    tally.hit_near("get", "a")
    tally.missed("get_many", ["a", "b", "c", "d"], {"b": 1})
    tally.loaded("get_or_set", ("k",), 0.1)
    tally.loaded("refresh", ("k",), 0.1)
    tally.load_failed("get_or_set", ("k",), 0.1, OSError())
    tally.refused("get_or_set", "k")
    tally.invalidated("delete", ["k", "l"], 2)
    tally.invalidated("clear", "*", 7)
    return tally


def test_a_tally_counts_the_same_whether_it_tells_or_not():
    heard = []
    quiet, told = stepped(Tally("user")), stepped(Tally("user", heard.append))
    assert quiet.stats() == told.stats()
    stats = told.stats()
    assert (stats.hits, stats.near_hits, stats.stale, stats.misses) == (4, 1, 1, 3)
    assert (stats.loads, stats.load_errors, stats.refused_fills) == (2, 1, 1)
    assert [type(record) for record in heard] == [Hit] * 4 + [Miss] * 3 + [Loaded, Refreshed, LoadFailed, FillRefused] + [Invalidated] * 2
    assert [record.key for record in heard if isinstance(record, Miss)] == ["a", "c", "d"]
    assert [record.targets for record in heard if isinstance(record, Invalidated)] == [("k", "l"), ("*",)]


@pytest.mark.parametrize("tells", [False, True])
def test_reads_that_nobody_asked_for_are_neither_told_nor_taken_over(tells):
    heard = []
    tally = Tally("user", heard.append if tells else None)
    aside = stepped(tally.aside())
    tally.take(aside)
    counts = msgspec.structs.asdict(tally.stats())
    assert {name: count for name, count in counts.items() if count} == {"loads": 2, "load_errors": 1, "refused_fills": 1}
    assert not [record for record in heard if isinstance(record, Hit | Miss)]
    assert len(heard) == (6 if tells else 0)
