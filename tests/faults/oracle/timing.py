"""The intervals of a run, scaled down so that many faults fit into seconds, and the bounds that follow from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. What stands in modules of the refresher as a constant is scaled in ``child``."""

    poll: float = 0.4
    settle: float = 0.2
    lease_ttl: float = 2.0
    hang_timeout: float = 1.0
    stale_after: float = 6.0
    server_deadline: float = 1.0
    """What one exchange of a refresher with the server may take."""
    retry: float = 0.2
    """How long a refresher waits after the server failed it."""
    standby: float = 0.1
    """How often a standby tries to take the lease."""
    reader_deadline: float = 1.0
    startup: float = 6.0
    """What a refresher may take to start, on a machine that is busy."""
    slack: float = 2.0
    """What scans and scheduling may take, on a machine that is busy."""
    watches: bool = False
    """Whether the refreshers run in watchdog mode, in which they poll a third as often."""

    @property
    def look(self) -> float:
        """Between two looks at everything."""
        return self.poll * (3 if self.watches else 1)

    @property
    def visible(self) -> float:
        """The freshness bound, in unhindered time."""
        return 2 * self.look + self.settle + self.slack

    @property
    def takeover(self) -> float:
        """Until somebody leads after a leader that did not give its lease back."""
        return self.lease_ttl + self.standby

    @property
    def recovery(self) -> float:
        """Until a refresher notices that the server is well again: an exchange and its retry time out."""
        return 2 * self.server_deadline + self.retry
