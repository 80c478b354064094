"""The server's settings."""

from dataclasses import dataclass

from cairn.core.config import option
from cairn.core.errors import UserError


@dataclass(frozen=True)
class ServerConfig:
    """How much the server takes on, for how long, and for whose pages."""

    waiting: int = option(256, "generations that may wait for their first token; more are answered with 429", minimum=1)
    timeout: float = option(600.0, "seconds that a request may take", minimum=0.1)
    grace: float = option(30.0, "seconds that running answers have to finish when the server stops", minimum=0)
    body_mib: int = option(4, "MiB that the body of a request may have", minimum=1)
    origins: tuple[str, ...] = option((), "web origins whose pages may call this server (CORS), as https://example.org")

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin == "*" or not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise UserError(f"origin {origin!r} must be written as https://example.org, without a path; name each")
