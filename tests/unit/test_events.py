import logging

from forebay import ConnectionDropped, NameRefused, ReadFailed, Undecodable, WriteFailed
from forebay.events import Reporter

LOST = ConnectionDropped(OSError("gone"), "localhost:6379")


def test_counter_hook_and_log_record(caplog):
    heard = []
    reporter = Reporter(heard.append)
    with caplog.at_level(logging.WARNING, "forebay"):
        reporter.report(LOST)
    assert heard == [LOST]
    assert reporter.counts() == {"ConnectionDropped": 1}
    assert [record.getMessage() for record in caplog.records] == ["connection to localhost:6379 dropped: gone"]


def test_log_records_are_limited_by_kind_and_say_what_was_left_out(caplog):
    now = 0.0
    reporter = Reporter(clock=lambda: now)
    with caplog.at_level(logging.WARNING, "forebay"):
        for _ in range(5):
            reporter.report(LOST)
        reporter.report(ReadFailed(OSError("away"), "user", "get", 42))
        now = 1.5
        reporter.report(LOST)
        now = 3.0
        reporter.report(LOST)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 4
    assert messages[1] == "get user:42 answered as a miss: away"
    assert messages[2].endswith("(4 more of this kind since the last record)")
    assert "more of this kind" not in messages[3]
    assert reporter.counts() == {"ConnectionDropped": 7, "ReadFailed": 1}


def test_a_failing_hook_is_logged_and_harms_nobody(caplog):
    def hook(event):
        raise ValueError("bad hook")

    with caplog.at_level(logging.ERROR, "forebay"):
        Reporter(hook).report(LOST)
    assert "the event hook failed on ConnectionDropped" in caplog.text


def test_descriptions_name_the_thing():
    cause = OSError("away")
    for event in (
        ReadFailed(cause, "user", "get", 42),
        WriteFailed(cause, "user", "set", 42),
        Undecodable(cause, "user", "get_or_set", 42),
    ):
        assert "user:42" in event.describe()
        assert "away" in event.describe()
    assert "SETNAME" in NameRefused(cause, "h:1").describe()
