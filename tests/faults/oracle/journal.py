"""What happened, in order, and what should not have."""

from __future__ import annotations

import threading
import time
from collections import Counter

MOST_VIOLATIONS = 20


class Journal:
    """Events and violations, from any thread."""

    def __init__(self) -> None:
        self.began = time.time()
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._events: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def note(self, what: str) -> None:
        """Something happened."""
        with self._lock:
            self._events.append((time.time(), what))

    def count(self, what: str, by: int = 1) -> None:
        """Something happened that nobody needs to read about."""
        with self._lock:
            self.counts[what] += by

    def violate(self, rule: str, what: str) -> None:
        """An assertion does not hold."""
        line = f"({rule}) at {time.time() - self.began:.3f} s: {what}"
        with self._lock:
            # One thing that went wrong shows in many reads.
            if len(self.violations) < MOST_VIOLATIONS:
                self.violations.append(line)
                self._events.append((time.time(), f"VIOLATION {line}"))

    @property
    def failed(self) -> bool:
        return bool(self.violations)

    def lines(self) -> list[str]:
        """The events, one a line, with seconds since the beginning."""
        with self._lock:
            return [f"{at - self.began:8.3f} {what}" for at, what in self._events]
