"""Everything that a caller gets instead of an answer.

    Idefics2Error
     ├── InvalidRequest            INVALID_ARGUMENT: the same request will fail again; names a field
     │    └── ImageUnreadable      never sent: the file cannot be read here; an OSError, too
     │         └── ImageNotFound   never sent: there is no such file; a FileNotFoundError, too
     ├── SettingInvalid            target or TLS cannot be used so, or do not fit the service
     ├── AuthenticationFailed      UNAUTHENTICATED, PERMISSION_DENIED: no API key, or one that is refused
     ├── NotFound                  NOT_FOUND: this key has no such request or file, or it was forgotten
     ├── AlreadyExists             ALREADY_EXISTS: the name is that of something with other content
     ├── NotFinished               FAILED_PRECONDITION: there is no answer yet, ask again later
     ├── Overloaded                RESOURCE_EXHAUSTED: too many wait or are kept already, retry later
     ├── ServiceUnavailable        UNAVAILABLE: not there, starting or stopping, retry later
     ├── DeadlineExceeded          DEADLINE_EXCEEDED: a timeout passed before the answer was complete
     ├── Cancelled                 CANCELLED: someone ended the call or the request
     └── ServiceFailed             all other codes

The status code chooses the class; `reason` says more, and is what to match on; `advice` says what to do. A
request that failed gives the same error whether a status, its last event or its `failure` tells of it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING

from idefics2_client.advice import SETTING, advise

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(eq=False)
class Idefics2Error(Exception):
    """No answer."""

    message: str
    """For a person; may be reworded."""
    _: KW_ONLY
    code: str = "UNKNOWN"
    """The name of the status code, one of grpc's sixteen."""
    reason: str = ""
    """The name of an `idefics2.v1.ErrorReason`; empty where it was not the service that refused."""
    field: str = ""
    """The field of the request that is at fault, for example `images[0].data`; empty if there is none."""
    request_id: str = ""
    """The request's id in the service's log; empty if the service never saw the request."""
    retry_after_seconds: float | None = None
    """How long to wait before the same request is worth sending again; None if the service did not say."""
    metadata: Mapping[str, str] = dataclass_field(default_factory=dict)
    """What else the service says, by names that the reason's comment in the contract has."""

    def __post_init__(self) -> None:
        """Keep what an error is made of, so that it survives the way to another process."""
        self.args = (self.message,)

    def __str__(self) -> str:
        """Say what a person needs."""
        return self.message

    @property
    def advice(self) -> str:
        """What to do about it, for a person; may be reworded."""
        return advise(self.reason, self.code, says_when=self.retry_after_seconds is not None)


class InvalidRequest(Idefics2Error):
    """The request is at fault: the same request will fail again."""


class ImageUnreadable(InvalidRequest, OSError):
    """An image's file cannot be read on this machine; the message names it."""


class ImageNotFound(ImageUnreadable, FileNotFoundError):
    """There is no such file on this machine; the message names it."""


class SettingInvalid(Idefics2Error):
    """What the client was told of the service cannot be used, or the service is not what it was told.

    `field` names the argument of the client: `target`, `tls`, `ca_file`, `certificate_file`, `key_file` or
    `retry`.
    """

    @property
    def advice(self) -> str:
        """What to do about it, for a person; may be reworded."""
        return SETTING


class AuthenticationFailed(Idefics2Error):
    """There is no API key, or it is refused."""


class NotFound(Idefics2Error):
    """There is no such request or file: there was none, it is another key's, or its time is over."""


class AlreadyExists(Idefics2Error):
    """The key has something of the same name with other content."""


class NotFinished(Idefics2Error):
    """The request is not at its end yet; ask again later."""


class Overloaded(Idefics2Error):
    """There is too much of something already; retry later."""


class ServiceUnavailable(Idefics2Error):
    """The service is not there, is starting or is stopping; retry later."""


class DeadlineExceeded(Idefics2Error):
    """A timeout of the call or of the request passed before the answer was complete."""


class Cancelled(Idefics2Error):
    """Someone ended the call or the request before the answer was complete."""


class ServiceFailed(Idefics2Error):
    """The service could not do what it should."""
