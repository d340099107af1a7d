"""Settings name a topology; here it becomes the route that fits. What is not named is not imported."""

from __future__ import annotations

from collections.abc import Callable

from ..events import Reporter
from ..settings import Settings
from .address import Address
from .latency import Latencies
from .node import MakeNode, Setup
from .route import Route
from .tracking import Listener
from .waiting import Waiting

__all__ = ["route_to"]


def route_to(
    settings: Settings,
    reporter: Reporter,
    make_node: MakeNode,
    waiting: Waiting,
    address: Callable[[], Address],
    listener: Listener | None = None,
) -> Route:
    """Return the route for *settings*, in the colour of *make_node* and *waiting*; *address* is where a single server listens.

    *listener* hears of keys that were read tracked and have changed.
    """
    tls = None
    if settings.tls:
        from .tls import Tls

        tls = Tls(settings)
    setup = Setup(settings, reporter, Latencies(), tls, listener)
    if settings.topology == "cluster":
        from .cluster import Cluster

        return Cluster(setup, make_node, waiting)
    from .standalone import Fixed, Standalone

    if settings.topology == "sentinel":
        from .sentinel import Sentinels

        return Standalone(setup, make_node, waiting, Sentinels(setup, make_node, waiting))
    return Standalone(setup, make_node, waiting, Fixed(address, setup, make_node, waiting))
