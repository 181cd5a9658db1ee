"""Passwords out of files, read anew for each connection, so that a secret may be rotated."""

from __future__ import annotations

from dataclasses import dataclass

from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError

from jobcache.errors import ConfigError

PASSWORD_FILE_VARIABLE = "JOBCACHE_REDIS_PASSWORD_FILE"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class PasswordFile(CredentialProvider):
    """The password that a file holds now, without the line end behind it."""

    path: str
    setting: str
    """Where the path came from, for messages."""
    username: str = "default"
    """Always sent: a server without passwords takes any for its default user, but not one without a name."""

    def read(self) -> str:
        """The password.

        Raises:
            ConfigError: the file cannot be read or is empty; the message names the setting and the path.
        """
        try:
            with open(self.path, encoding="utf-8", errors="surrogateescape") as file:
                password = file.read().rstrip("\r\n")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"{self.setting}={self.path!r}: {why}") from None
        if not password:
            raise ConfigError(f"{self.setting}={self.path!r}: the file is empty")
        return password

    def get_credentials(self) -> tuple[str, str]:
        """What a new connection authenticates with.

        Raises:
            AuthenticationError: the file has become unreadable; the connection fails, the next one tries again.
        """
        try:
            return self.username, self.read()
        except ConfigError as error:
            raise AuthenticationError(str(error)) from None

    async def get_credentials_async(self) -> tuple[str, str]:
        """``get_credentials`` for asyncio; the file is small."""
        return self.get_credentials()
