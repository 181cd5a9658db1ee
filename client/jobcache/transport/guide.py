"""Finding the server to talk to, where it is not fixed: the I/O around a ``Route``."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from jobcache.transport.budget import Budget
from jobcache.transport.drive import drive, drive_async
from jobcache.transport.private import abort
from jobcache.transport.route import Address, AskFailedError, Inquiry, NoRouteError, Route

SHARE_OF_SEARCH = 0.5
"""Most of a budget that may go into finding the server."""


class Guide:
    """Finds the server to connect to: asks as a route tells.

    Args:
        route: the way.
        kind: class of the connections to those who are asked.
        options: of those connections.
    """

    def __init__(self, route: Route, kind: Any, options: Mapping[str, Any]) -> None:
        self.route = route
        self._kind = kind
        self._options = options

    def find(self, budget: Budget) -> Address:
        """The server's address.

        Raises:
            redis.ConnectionError: nobody could tell.
        """
        try:
            return drive(self._search(budget), self._ask, (AskFailedError,))
        except NoRouteError as error:
            raise RedisConnectionError(str(error)) from None

    async def find_async(self, budget: Budget) -> Address:
        """The same for asyncio."""
        try:
            return await drive_async(self._search(budget), self._ask_async, (AskFailedError,))
        except NoRouteError as error:
            raise RedisConnectionError(str(error)) from None

    def _search(self, budget: Budget) -> Generator[Inquiry, Any, Address]:
        return self.route.search(budget.left() * SHARE_OF_SEARCH)

    def _ask(self, inquiry: Inquiry) -> Any:
        connection = self._connection_for(inquiry)
        try:
            connection.connect()
            connection.send_command(*inquiry.command)
            return connection.read_response()
        except (RedisError, OSError) as error:
            raise AskFailedError(str(error)) from None
        finally:
            connection.disconnect()

    async def _ask_async(self, inquiry: Inquiry) -> Any:
        connection = self._connection_for(inquiry)
        try:
            async with asyncio.timeout(inquiry.seconds):
                await connection.connect()
                await connection.send_command(*inquiry.command)
                return await connection.read_response()
        except TimeoutError:
            raise AskFailedError("no answer") from None
        except (RedisError, OSError) as error:
            raise AskFailedError(str(error)) from None
        finally:
            abort(connection)

    def _connection_for(self, inquiry: Inquiry) -> Any:
        return self._kind(
            host=inquiry.address.host,
            port=inquiry.address.port,
            budget=Budget.of(inquiry.seconds),
            **self._options,
        )
