"""What can go wrong with one request.

    EngineError
     ├── InvalidRequest   the caller's fault; names the field
     ├── EngineFull       nobody's; the same request may be answered in a while
     └── EngineFault      ours; the log holds the traceback

`reason` is a value of the proto's ErrorReason, so that a front can pass it on unread.
"""

from __future__ import annotations


class EngineError(Exception):
    """A request that ends without an answer."""

    def __init__(
        self, reason: str, message: str, field: str = "", *, bound: str = "", value: object = ""
    ) -> None:
        """Keep the machine's word, the person's sentence, the field at fault, its bound and what passed that.

        All but the first two are empty where there is none.
        """
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.bound = bound
        self.value = str(value)


class InvalidRequest(EngineError):
    """The request itself cannot be answered; another one can."""


class EngineFull(EngineError):
    """As many requests are here as may be."""

    def __init__(self, message: str) -> None:
        """Say how many that are."""
        super().__init__("QUEUE_FULL", message)


class EngineFault(EngineError):
    """The engine failed this request alone."""

    def __init__(self, message: str) -> None:
        """Say no more than `message`: it reaches the caller."""
        super().__init__("INTERNAL_ERROR", message)
