"""A web worker that has loaded no jobs, and the ground of the other roles."""

from __future__ import annotations

import asyncio
import resource
import sys
import time

from pydantic import BaseModel

WEB_FRAMEWORK = (asyncio, BaseModel)
"""What any worker of the dashboard has imported before it comes to jobs."""


class Role:
    """A process that can say what it uses."""

    def rss(self) -> int:
        """Bytes of memory that this process holds now; where the system does not tell, the most it ever held."""
        try:
            with open("/proc/self/status") as status:
                fields = dict(line.split(":", 1) for line in status)
            return int(fields["VmRSS"].split()[0]) * 1024
        except OSError:
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def cpu(self) -> float:
        """Seconds of processor time that this process has used."""
        return time.process_time()
