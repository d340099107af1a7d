"""Deadlines against a plain list of places, and the silence of a connection that owes replies."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.wire.deadlines import Deadlines

steps = st.lists(st.tuples(st.sampled_from(["send", "hear", "look"]), st.integers(1, 5), st.integers(0, 30)), max_size=40)


@given(steps)
def test_like_a_list_of_places_each_with_its_own_timer(steps):
    now, waiting, deadlines = 0, [], Deadlines(timeout=30, silence=60, now=0)
    for kind, count, pause in steps:
        now += pause
        if kind == "send":
            deadlines.sent(count, now)
            waiting += [[now + 30, False] for _ in range(count)]
        elif kind == "hear":
            count = min(count, len(waiting))
            deadlines.heard(count, now)
            del waiting[:count]
        else:
            newly = deadlines.overdue(now)
            late = [place for place in waiting if place[0] <= now]
            assert newly in (0, len(late))
            assert newly or all(told for _, told in late)
            for place in late:
                place[1] = True
        next_look = deadlines.next_look()
        assert (next_look is None) == (not waiting)
        if any(not told for _, told in waiting):
            assert next_look <= min(due for due, told in waiting if not told)


def test_silence_counts_from_the_first_command_that_is_owed_a_reply():
    deadlines = Deadlines(timeout=3, silence=6, now=0)
    assert not deadlines.silent(1000)  # nothing is owed
    deadlines.sent(1, 1000)
    assert not deadlines.silent(1005.9)
    assert deadlines.silent(1006)
    deadlines.heard(0, 1005)  # half a reply is a sign of life
    assert not deadlines.silent(1006)
    assert deadlines.silent(1011)
    deadlines.heard(1, 1011)
    assert not deadlines.silent(5000)
    assert deadlines.next_look() is None
