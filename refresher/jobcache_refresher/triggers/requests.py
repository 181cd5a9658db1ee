"""What clients and operators ask of the refresher, read off the ``requests`` stream as it comes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from redis.exceptions import RedisError, ResponseError

from jobcache.ids import JobId
from jobcache.numbers import place_in_stream
from jobcache.schema import streams
from jobcache.schema.keys import Keys
from jobcache_refresher.publish.deleter import Deleter
from jobcache_refresher.publish.server import Server

log = logging.getLogger(__name__)

BLOCK = 0.5
"""Seconds that one read waits for a request."""
RELEASE_LASTS = 600
"""Seconds that a release waits for a refresher: it concerns what is held now, and not what will vanish some day."""


@dataclass(slots=True)
class Requests:
    """Requests that came since they were last drained."""

    invalidated: set[bytes] = field(default_factory=set)
    refresh: bool = False
    release: bool = False
    """Not of the stream, to which clients append as well: see ``post_release``."""
    audit: bool = False
    position: bytes = b""
    """Id of the last of them."""

    def add(self, position: bytes, fields: dict[bytes, bytes]) -> None:
        """Take in one entry of the stream; an unknown one changes only the position."""
        self.position = position
        path = fields.get(streams.REQUEST_ID, b"")
        is_run = JobId.read(path) is not None
        match fields.get(streams.REQUEST):
            case streams.INVALIDATE if is_run:
                self.invalidated.add(path)
            case streams.REFRESH:
                self.refresh = True
            case streams.AUDIT:
                self.audit = True


def post_release(server: Server, keys: Keys) -> None:
    """Ask the refresher to apply deletions that it holds, by a key that no client may write.

    Raises:
        redis.RedisError: the server did not take the request.
    """
    server.ask(b"SET", keys.release, b"1", b"EX", RELEASE_LASTS)


class RequestInbox:
    """Reads the stream in a thread of its own, and calls ``wake`` when something came."""

    def __init__(
        self, server: Server, keys: Keys, deleter: Deleter, wake: Callable[[], None]
    ) -> None:
        self._deleter = deleter
        self._server = server
        self._keys = keys
        self._wake = wake
        self._lock = threading.Lock()
        self._pending = Requests()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        """Whether a thread reads the stream."""
        return self._thread is not None

    def open(self, position: bytes | None, deleted_position: bytes | None = None) -> None:
        """Begin to read.

        Args:
            position: id of the last request that was seen to; by default that of the last there is.
            deleted_position: id of the last request to delete that was applied.
        """
        if self._thread is not None:
            return
        self._deleter.open(deleted_position or b"")
        after = position
        if after is None:
            after = self._newest()
            self.put_back(Requests(position=after))
        self._thread = threading.Thread(
            target=self._read, args=(after, self._stop), name="jobcache-requests", daemon=True
        )
        self._thread.start()

    def suspend(self) -> None:
        """Forget what came, and read no more until it is opened anew: another refresher is asked now."""
        self._deleter.close()
        with self._lock:
            self._stop.set()
            self._stop = threading.Event()
            self._pending = Requests()
        self._thread = None

    def stop(self) -> None:
        """Stop reading. The read that is under way ends within ``BLOCK``; nobody waits for it, nothing comes of it."""
        self._stop.set()
        self._deleter.close()

    def drain(self) -> Requests:
        """Everything that came since the last call."""
        with self._lock:
            drained, self._pending = self._pending, Requests()
        return drained

    def put_back(self, requests: Requests) -> None:
        """Return what was drained but not done."""
        with self._lock:
            later = self._pending
            later.invalidated |= requests.invalidated
            later.refresh |= requests.refresh
            later.release |= requests.release
            later.audit |= requests.audit
            later.position = later.position or requests.position

    def _newest(self) -> bytes:
        try:
            newest = self._server.ask(*streams.newest_command(self._keys.requests))
        except ResponseError:  # of a wrong type, as an audit will find
            return b"0-0"
        return streams.newest_position(newest)

    def _read(self, after: bytes, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                reply = self._server.ask(
                    b"XREAD", b"BLOCK", int(BLOCK * 1000), b"STREAMS", self._keys.requests, after
                )
                if stop.is_set():  # whoever leads next reads it, and the release as well
                    return
                if not reply and place_in_stream(self._newest()) < place_in_stream(after):
                    after = b"0-0"  # the stream began anew
                released = bool(self._server.ask(b"DEL", self._keys.release))
            except (RedisError, OSError) as error:
                log.debug("requests: %s", error)
                stop.wait(BLOCK)
                continue
            if released:
                with self._lock:
                    self._pending.release = True
                self._wake()
            for _, entries in reply or ():
                for position, flat in entries:
                    after = position
                    with self._lock:
                        if stop.is_set():
                            return
                        fields = dict(zip(flat[::2], flat[1::2], strict=True))
                        self._pending.add(position, fields)
                        self._hand_on(position, fields)
                self._wake()

    def _hand_on(self, position: bytes, fields: dict[bytes, bytes]) -> None:
        """Have a job deleted, if that is what is asked."""
        path = fields.get(streams.REQUEST_ID, b"")
        if fields.get(streams.REQUEST) == streams.DELETE and JobId.read(path) is not None:
            self._deleter.ask(position, path)
