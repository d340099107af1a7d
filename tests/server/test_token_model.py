"""Refresh tokens against a plain model: who may go on, who is late, and what is a theft, in any order of uses and at any time."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from forebay import Forebay, RefreshTokenInvalid, RefreshTokenReused
from forebay.testing import moved_clock

GRACE = 10
STEPS = st.lists(
    st.one_of(st.tuples(st.just("use"), st.integers(0, 5)), st.tuples(st.just("wait"), st.sampled_from([4, 7, 11]))), max_size=14
)


class Model:
    """Tokens by the order in which they were made; the last is good."""

    def __init__(self):
        self.made, self.until, self.alive = 1, {}, True

    def use(self, which, now):
        if not self.alive:
            return "invalid"
        if which == self.made - 1:
            self.until[which] = now + GRACE
            self.made += 1
            return self.made - 1
        if which == self.made - 2 and now < self.until[which]:
            return which + 1
        if which == self.made - 3 and now < self.until[which]:
            return "invalid"
        self.alive = False
        return "reused"


@pytest.mark.parametrize("room", ["asked again", "one after the other"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_uses_in_any_order_end_as_the_model_says(url, prefix, room, steps):
    with Forebay(url, prefix=prefix) as bay, moved_clock(bay) as clock:
        tokens, model, now = bay.tokens("k" * 64, grace=GRACE), Model(), 0
        texts = [tokens.issue(42).refresh_token]
        for step, number in steps:
            if step == "wait":
                clock.advance(number)
                now += number
                continue
            which = max(0, len(texts) - 1 - (number if room == "asked again" else number % 2))
            expected = model.use(which, now)
            try:
                pair = tokens.refresh(texts[which])
            except RefreshTokenReused:
                got = "reused"
            except RefreshTokenInvalid:
                got = "invalid"
            else:
                if pair.refresh_token not in texts:
                    texts.append(pair.refresh_token)
                got = texts.index(pair.refresh_token)
            assert got == expected
        assert len(tokens.list_for(42)) == model.alive
        tokens.revoke_for(42)
