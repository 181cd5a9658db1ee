"""What every section of a run measures with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobcache.schema.keys import Keys
from tests.bench.peer import Peer
from tests.bench.server import ServerView
from tests.bench.tree import MeasuredTree


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure. More of it gives steadier numbers, not other ones."""

    scans: int = 3
    """First scans and restarts."""
    rounds: int = 40
    """Of each query."""
    seconds: float = 6.0
    """After which a query gets no further round."""
    poll_interval: float = 10.0
    """Seconds; of the steady refresher, which relists every `CYCLES` polls."""
    app_seconds: float = 60.0
    """Of load on the web application while nobody refreshes, and again on either while it does."""
    app_workers: int = 4


@dataclass(frozen=True, slots=True)
class Setting:
    """One run: the tree, the server, and the namespace that is this run's own."""

    tree: MeasuredTree
    url: str
    namespace: str
    server: ServerView
    effort: Effort
    say: Callable[[str], None]
    """Tells a person how far the run is."""

    @property
    def prefix(self) -> bytes:
        """What this run's keys begin with."""
        return Keys(self.namespace).prefix

    def refresher(self, **settings: object) -> Peer:
        """A process with a refresher, not yet opened."""
        return Peer(
            "refresher",
            tree=str(self.tree.root),
            url=self.url,
            namespace=self.namespace,
            settings=settings,
        )

    def client(self) -> Peer:
        """A process with a connected client."""
        return Peer("client", url=self.url, namespace=self.namespace)

    def catch_up(self, baseline: Peer) -> None:
        """Let every running job beat, and both sides see it, so that neither calls it stale."""
        self.tree.beat()
        baseline.ask("scan", kind="incremental")
        with self.refresher() as refresher:
            refresher.ask("open")
            refresher.ask("close")
