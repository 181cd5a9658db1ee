"""A process of its own for every contestant, so that none carries another's heap, imports or threads.

The parent asks over a pipe, a line of JSON a question and a line an answer; the child answers by calling the method of
that name on its `Role`. The child ends when the pipe does.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_REPOSITORY = Path(__file__).resolve().parents[2]


class PeerError(Exception):
    """The child could not answer; the message is what it met."""


class Peer:
    """The parent's end.

    Args:
        role: a module of `tests.bench.roles`.
        arguments: for the constructor of its `Role`.

    Raises:
        PeerError: the constructor raised.
    """

    def __init__(self, role: str, **arguments: object) -> None:
        self._role = role
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, role],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.ask("__init__", **arguments)
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, /, **arguments: object) -> Any:
        """Call a method of the child's role, and return what it returns.

        Raises:
            PeerError: it raised, or the child died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"{self._role} died with status {self._process.wait()}")
        answer, error = json.loads(line)
        if error is not None:
            raise PeerError(f"{self._role}.{method}: {error}")
        return answer

    def close(self) -> None:
        """End the child."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve(role: str) -> None:
    """The child's end: answer until there are no more questions."""
    # Only now, so that the memory of a process is that of what its role needs.
    part = importlib.import_module(f"tests.bench.roles.{role}").Role
    instance: Any = None
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            if method == "__init__":
                instance, answer = part(**arguments), None
            else:
                answer = getattr(instance, method)(**arguments)
        except Exception as error:
            reply = [None, f"{type(error).__name__}: {error}"]
        else:
            reply = [answer, None]
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
