"""What both colours of a port pass on to the route as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from ..events import Reporter
from ..wire.route import Route
from ..wire.subscription import SubscriptionCore
from ..wire.waiting import Waiting
from .tracking import Tracking

__all__ = ["PortBase"]

W = TypeVar("W", bound=Waiting)


class PortBase(Generic[W]):
    """Commands, counts and subscriptions of a route, under the names of `Port`."""

    def __init__(self, route: Route, waiting: W, reporter: Reporter, tracking: Tracking) -> None:
        self.tracking = tracking
        self.route = route
        self.waiting = waiting
        self._reporter = reporter
        self.get = route.get
        self.send = route.send
        self.again = route.again
        self.track = route.track
        self.pair = route.pair
        self.gather = route.gather
        self.read_again = route.read_again
        self.tells = route.tells
        self.stream = route.stream
        self.execute = route.execute
        self.execute_many = route.execute_many
        self.transaction = route.transaction
        self.connect = route.connect
        self.stats = route.stats

    def subscription(self, channels: Sequence[str], patterns: Sequence[str]) -> SubscriptionCore:
        """Return a subscription that is not open yet."""
        return SubscriptionCore(self.route, self.waiting, self._reporter, channels, patterns)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.route!r}>"
