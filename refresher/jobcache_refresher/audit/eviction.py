"""Whether the server may drop keys of the cache to make room, and whether it did."""

from __future__ import annotations

import logging

from jobcache_refresher.audit.inspection import Inspector

log = logging.getLogger(__name__)


class Evictions:
    """Watches the eviction policy and the count of evicted keys, as far as the server tells of them.

    Only ``allkeys-*`` policies concern the cache: its keys have no time to live, but for the lease, and a lost
    lease is taken again.
    """

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._policy: str | None = None
        self._evicted = 0
        self._asked = False
        self._denied = False

    @property
    def warning(self) -> str:
        """What an operator should know; empty when there is nothing."""
        if not (self._policy or "").startswith("allkeys-"):
            return ""
        return (
            f"maxmemory-policy is {self._policy}: Redis may drop any key of the cache to make room; "
            "use noeviction or volatile-*"
        )

    def look(self) -> bool:
        """Ask the server; returns whether it may have dropped keys of the cache since it was asked last."""
        # Who is denied it once is not to fill the server's log of denials.
        info = None if self._denied else self._inspector.info()
        if info is None:
            if not self._denied:
                self._denied = True
                self._note(self._inspector.configured_policy())
            return False
        self._note(info.get("maxmemory_policy"))
        evicted, before = int(info.get("evicted_keys", 0)), self._evicted
        self._evicted = evicted
        return bool(self.warning) and evicted != before

    def _note(self, policy: str | None) -> None:
        if self._asked and policy == self._policy:
            return
        self._asked, self._policy = True, policy
        if self.warning:
            log.warning("%s", self.warning)
        elif policy is None:
            log.info("the eviction policy is not known: the server tells neither INFO nor CONFIG")
