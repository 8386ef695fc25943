"""The `serve` section of `params.yaml`: what a server bears."""

from pydantic import Field

from salon.params.section import Section


class ServeParams(Section):
    """Limits of `salon serve`, and how it batches."""

    default_method: str = "diffusion"
    """Who answers a request that names no method; the first of `methods` where this one has no champion."""
    queue_pictures: int = Field(256, ge=64)
    """Pictures that may wait; a request that does not fit is turned away at once with 503."""
    batch_wait_ms: float = Field(4.0, ge=0)
    """How long an idle server waits for more pictures to draw together; each is delayed by at most this."""
    time_limit_seconds: float = Field(30.0, gt=0)
    """A request that is not answered by then is given up, also while it is drawn."""
    body_seconds: float = Field(10.0, gt=0)
    """A request whose body has not come by then is refused."""
    max_body_bytes: int = Field(1_048_576, ge=1024)
    """Longest body; 64 rows with the longest prompts stay below it."""
    max_connections: int = Field(512, ge=1)
    """Requests that are read or answered at once; more are turned away with 503."""
    poll_seconds: float = Field(3.0, gt=0)
    """How often the registry is asked for new champions."""
