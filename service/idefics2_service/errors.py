"""Everything that this service answers with when it does not answer.

    ServiceError
     ├── InvalidInput                       INVALID_ARGUMENT, names a field
     │    ├── RequestMalformed
     │    ├── TextNotUnicode
     │    ├── ValueOutOfRange               names bound and value too
     │    ├── PromptMissing · PromptTooLarge · PromptHasSpecialToken · ContextExceeded
     │    ├── RequestIdInvalid · PageTokenInvalid · WebhookUrlInvalid · PayloadTooLarge
     │    ├── ImageMissing
     │    └── FileEmpty · FileTooLarge · FileNotAnImage · FileUndecodable · FileTooManyPixels
     │        FileDataUriInvalid · FileUrlUnsupported · FileUrlInvalid · FileUrlForbidden
     │        FileNotFound · FileBlocked · FileRateLimited · FileUnreachable · FileTooSlow
     │        FileMismatch · FileDigestInvalid · UploadPartMissing
     ├── Unauthenticated                    UNAUTHENTICATED
     │    ├── ApiKeyMissing
     │    └── ApiKeyInvalid · ApiKeyRevoked · ApiKeyExpired
     ├── FaceNotAllowed · AppNotAllowed     PERMISSION_DENIED
     ├── QuotaExceeded                      RESOURCE_EXHAUSTED, names the quota, retry later
     │    ├── QueueFull · CallsFull · MemoryFull
     │    └── RateLimited · ConcurrencyExceeded · QueueQuotaExceeded · FileQuotaExceeded
     ├── RequestCancelled                   CANCELLED
     ├── RequestDeadlineExceeded            DEADLINE_EXCEEDED
     ├── StartTimeout                       DEADLINE_EXCEEDED
     ├── ReaderStalled · SenderStalled      DEADLINE_EXCEEDED
     ├── RequestNotFound                    NOT_FOUND
     ├── FileNotUploaded · UploadNotFound   NOT_FOUND
     ├── RequestIdTaken                     ALREADY_EXISTS
     ├── RequestNotFinished                 FAILED_PRECONDITION
     ├── FileAlreadyComplete                FAILED_PRECONDITION
     ├── Unavailable                        UNAVAILABLE, retry later
     │    ├── BackendUnavailable
     │    ├── ServiceStopping
     │    ├── StoreUnavailable · FileStoreUnavailable
     │    └── AttemptsExhausted · AttemptLost
     ├── MethodUnknown                      UNIMPLEMENTED
     └── InternalError                      INTERNAL; never says more than the request's id

    SettingInvalid, StartFailed             end the program before it serves; never cross the wire

`code` is one of the sixteen canonical status codes, `reason` a value of the proto's ErrorReason; classes
without a `reason` are never raised. The faces derive what they send from the class alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_MAX_REPEATED = 80
"""Characters of what a caller sent. A status is a trailer, and gRPC's clients take none beyond 16 KiB."""


def _cut(given: object) -> str:
    """Write the beginning of what a caller sent, in ASCII: in a trailer, other characters are many."""
    return str(given)[:_MAX_REPEATED].encode("ascii", "backslashreplace").decode()[:_MAX_REPEATED]


def let_go_of_frames(error: BaseException) -> None:
    """Let an error be no more than its words.

    Its frames hold the request's images, and mostly the error itself: until the next collection of
    everything, which may be gigabytes away.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None


class ServiceError(Exception):
    """What a caller is told."""

    code: ClassVar[str] = ""
    reason: ClassVar[str] = ""
    usual_retry_after_seconds: ClassVar[float | None] = None

    def __init__(
        self, message: str, *, field: str = "", retry_after_seconds: float | None = None, **metadata: str
    ) -> None:
        """Keep a sentence for a person that names field, bound and value, and facts for a machine."""
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_seconds = retry_after_seconds or self.usual_retry_after_seconds
        self.metadata = {"field": field, **metadata} if field else metadata

    def without_frames(self) -> Self:
        """Return this error without its tracebacks."""
        let_go_of_frames(self)
        return self


class InvalidInput(ServiceError):
    """The request is at fault: the same request will fail again."""

    code = "INVALID_ARGUMENT"
    others: tuple[InvalidInput, ...] = ()
    """What else is wrong with it."""


class RequestMalformed(InvalidInput):
    """The bytes are not a message of the API."""

    reason = "REQUEST_MALFORMED"


class TextNotUnicode(InvalidInput):
    """A text holds a lone surrogate or is not UTF-8."""

    reason = "TEXT_NOT_UNICODE"


class ValueOutOfRange(InvalidInput):
    """A number, or a list's length, is outside its bounds."""

    reason = "VALUE_OUT_OF_RANGE"

    @classmethod
    def of(cls, field: str, bound: str, value: object) -> ValueOutOfRange:
        """Say that `field` must be `bound`, not `value`."""
        told = _cut(value)
        return cls(f"{field} must be {bound}, not {told}", field=field, bound=bound, value=told)


class PromptMissing(InvalidInput):
    """There is nothing to do."""

    reason = "PROMPT_MISSING"


class PromptTooLarge(InvalidInput):
    """The prompt has too many bytes."""

    reason = "PROMPT_TOO_LARGE"


class PromptHasSpecialToken(InvalidInput):
    """The prompt holds a marker of the model's template."""

    reason = "PROMPT_HAS_SPECIAL_TOKEN"


class ContextExceeded(InvalidInput):
    """Prompt, images and answer do not fit into the model's context."""

    reason = "CONTEXT_EXCEEDED"


class RequestIdInvalid(InvalidInput):
    """A request's name holds what no name has."""

    reason = "REQUEST_ID_INVALID"


class PageTokenInvalid(InvalidInput):
    """The page token is not of this list, or not of this key."""

    reason = "PAGE_TOKEN_INVALID"


class WebhookUrlInvalid(InvalidInput):
    """The webhook cannot be called."""

    reason = "WEBHOOK_URL_INVALID"


class PayloadTooLarge(InvalidInput):
    """Prompt and images are more than the store takes."""

    reason = "PAYLOAD_TOO_LARGE"


class ImageMissing(InvalidInput):
    """There is nothing to look at."""

    reason = "IMAGE_MISSING"


class FileEmpty(InvalidInput):
    """The file has no bytes."""

    reason = "FILE_EMPTY"


class FileTooLarge(InvalidInput):
    """The file has too many bytes."""

    reason = "FILE_TOO_LARGE"


class FileNotAnImage(InvalidInput):
    """The file is not a picture of a format that is accepted."""

    reason = "FILE_NOT_AN_IMAGE"


class FileUndecodable(InvalidInput):
    """The picture is truncated or damaged."""

    reason = "FILE_UNDECODABLE"


class FileTooManyPixels(InvalidInput):
    """The picture is too large once decoded."""

    reason = "FILE_TOO_MANY_PIXELS"


class FileDataUriInvalid(InvalidInput):
    """The data URI cannot be read."""

    reason = "FILE_DATA_URI_INVALID"


class FileUrlUnsupported(InvalidInput):
    """The URL is of a kind that is not fetched."""

    reason = "FILE_URL_UNSUPPORTED"


class FileUrlInvalid(InvalidInput):
    """The URL cannot be used as it is."""

    reason = "FILE_URL_INVALID"


class FileUrlForbidden(InvalidInput):
    """The URL's host is not public."""

    reason = "FILE_URL_FORBIDDEN"


class FileNotFound(InvalidInput):
    """The URL's host has no such file."""

    reason = "FILE_NOT_FOUND"


class FileBlocked(InvalidInput):
    """The URL's host does not give the file to us."""

    reason = "FILE_BLOCKED"


class FileRateLimited(InvalidInput):
    """The URL's host was asked too often."""

    reason = "FILE_RATE_LIMITED"


class FileUnreachable(InvalidInput):
    """The URL's host cannot be reached, or gives no file."""

    reason = "FILE_UNREACHABLE"


class FileTooSlow(InvalidInput):
    """The URL's host takes too long."""

    reason = "FILE_TOO_SLOW"


class FileMismatch(InvalidInput):
    """What was uploaded is not what was announced."""

    reason = "FILE_MISMATCH"

    @classmethod
    def of(cls, field: str, announced: object, received: object) -> FileMismatch:
        """Say that `field` was announced as one thing and came as another."""
        announced, received = _cut(announced), _cut(received)
        message = f"{field}: {announced} was announced, {received} came"
        return cls(message, field=field, announced=announced, received=received)


class FileDigestInvalid(InvalidInput):
    """No file has this sha-256."""

    reason = "FILE_DIGEST_INVALID"


class UploadPartMissing(InvalidInput):
    """Parts that a file shall be made of did not come."""

    reason = "UPLOAD_PART_MISSING"


class Unauthenticated(ServiceError):
    """Nobody knows the caller."""

    code = "UNAUTHENTICATED"


class ApiKeyMissing(Unauthenticated):
    """The call has no key."""

    reason = "API_KEY_MISSING"


class ApiKeyInvalid(Unauthenticated):
    """The key is not known."""

    reason = "API_KEY_INVALID"


class ApiKeyRevoked(Unauthenticated):
    """The key was known, and was taken back."""

    reason = "API_KEY_REVOKED"


class ApiKeyExpired(Unauthenticated):
    """The key was known, and its time is over."""

    reason = "API_KEY_EXPIRED"


class FaceNotAllowed(ServiceError):
    """The key is known, and may not be used here."""

    code = "PERMISSION_DENIED"
    reason = "FACE_NOT_ALLOWED"


class AppNotAllowed(ServiceError):
    """The key is known, and may not use what this service serves."""

    code = "PERMISSION_DENIED"
    reason = "APP_NOT_ALLOWED"


class QuotaExceeded(ServiceError):
    """Not so much at once: the same call may succeed in a while."""

    code = "RESOURCE_EXHAUSTED"
    usual_retry_after_seconds = 1.0
    quota: ClassVar[str] = ""
    """What is used up."""


class QueueFull(QuotaExceeded):
    """Too many requests wait already."""

    reason = "QUEUE_FULL"
    quota = "queue"


class CallsFull(QuotaExceeded):
    """Too many calls are open, or too many of this key while others need room too."""

    reason = "CALLS_FULL"
    quota = "open_calls"


class MemoryFull(QuotaExceeded):
    """Too many bytes of files are held, or too many of this key while others need room too."""

    reason = "MEMORY_FULL"
    quota = "held_bytes"


class RateLimited(QuotaExceeded):
    """The key's calls come too fast."""

    reason = "RATE_LIMITED"
    quota = "calls_per_second"


class ConcurrencyExceeded(QuotaExceeded):
    """Too many calls of the key are open."""

    reason = "CONCURRENCY_EXCEEDED"
    quota = "max_concurrent"


class QueueQuotaExceeded(QuotaExceeded):
    """Too many submitted requests of the key have not ended."""

    reason = "QUEUE_QUOTA_EXCEEDED"
    quota = "max_queued"


class FileQuotaExceeded(QuotaExceeded):
    """The key's uploaded files are as many, or as many bytes, as it may have."""

    reason = "FILE_QUOTA_EXCEEDED"
    quota = "files"
    usual_retry_after_seconds = 60.0


class RequestCancelled(ServiceError):
    """The caller wants no answer any more."""

    code = "CANCELLED"
    reason = "REQUEST_CANCELLED"


class RequestDeadlineExceeded(ServiceError):
    """The caller's deadline passed, or the request took longer than any may."""

    code = "DEADLINE_EXCEEDED"
    reason = "REQUEST_DEADLINE_EXCEEDED"


class StartTimeout(ServiceError):
    """The request was not begun in time."""

    code = "DEADLINE_EXCEEDED"
    reason = "START_TIMEOUT"


class ReaderStalled(ServiceError):
    """The caller did not read what it was sent."""

    code = "DEADLINE_EXCEEDED"
    reason = "READER_STALLED"


class SenderStalled(ServiceError):
    """The caller did not send what has to come."""

    code = "DEADLINE_EXCEEDED"
    reason = "SENDER_STALLED"


class RequestNotFound(ServiceError):
    """The key has no such request: there is none, it is another's, or it was forgotten."""

    code = "NOT_FOUND"
    reason = "REQUEST_NOT_FOUND"


class FileNotUploaded(ServiceError):
    """The key has no such file: it uploaded none, it is another's, or its time is over."""

    code = "NOT_FOUND"
    reason = "FILE_NOT_UPLOADED"

    @classmethod
    def of(cls, *missing: str, field: str = "") -> FileNotUploaded:
        """Name every file that is missing, by sha-256, id or URL; `field` is that of the first one."""
        named = [_cut(name) for name in missing]
        message = f"this key has no uploaded file {', '.join(named)}"
        return cls(message, field=field, missing=",".join(named))


class UploadNotFound(ServiceError):
    """The key has no such unfinished upload."""

    code = "NOT_FOUND"
    reason = "UPLOAD_NOT_FOUND"


class RequestIdTaken(ServiceError):
    """The key has a request of this name with other content."""

    code = "ALREADY_EXISTS"
    reason = "REQUEST_ID_TAKEN"


class RequestNotFinished(ServiceError):
    """There is no result yet."""

    code = "FAILED_PRECONDITION"
    reason = "REQUEST_NOT_FINISHED"


class FileAlreadyComplete(ServiceError):
    """What was announced has come: its bytes are never changed."""

    code = "FAILED_PRECONDITION"
    reason = "FILE_ALREADY_COMPLETE"


class Unavailable(ServiceError):
    """Not now: the same request may succeed in a while."""

    code = "UNAVAILABLE"
    usual_retry_after_seconds = 1.0


class BackendUnavailable(Unavailable):
    """The model's server does not answer."""

    reason = "BACKEND_UNAVAILABLE"
    was_sent = True
    """Whether it may have had the request, so that the request may be what it was lost by."""

    @classmethod
    def unsent(cls, message: str) -> BackendUnavailable:
        """Say that it was lost before it was sent the request."""
        error = cls(message)
        error.was_sent = False
        return error


class ServiceStopping(Unavailable):
    """The replica that was asked is shutting down."""

    reason = "SERVICE_STOPPING"


class StoreUnavailable(Unavailable):
    """The store of requests cannot be reached."""

    reason = "STORE_UNAVAILABLE"


class FileStoreUnavailable(Unavailable):
    """Uploaded files cannot be kept or read."""

    reason = "FILE_STORE_UNAVAILABLE"


class AttemptsExhausted(Unavailable):
    """What ran the request was lost each time."""

    reason = "ATTEMPTS_EXHAUSTED"


class AttemptLost(Unavailable):
    """The only attempt that the caller allowed was lost."""

    reason = "ATTEMPT_LOST"


class MethodUnknown(ServiceError):
    """There is no such method."""

    code = "UNIMPLEMENTED"
    reason = "METHOD_UNKNOWN"


class InternalError(ServiceError):
    """A fault of ours; the log holds the rest."""

    code = "INTERNAL"
    reason = "INTERNAL_ERROR"


class SettingInvalid(Exception):
    """A setting is unknown or bad; the message names it."""


class StartFailed(Exception):
    """Something that the service needs could not be started; the message says what to do."""


def concrete_errors(root: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """Yield every class that can be raised."""
    if root.reason:
        yield root
    for child in root.__subclasses__():
        yield from concrete_errors(child)


def error_for(
    reason: str, message: str, field: str = "", metadata: Mapping[str, str] | None = None
) -> ServiceError:
    """Make the error that engine or store named by its `reason`; an unknown reason is a fault of ours."""
    kinds = {kind.reason: kind for kind in concrete_errors()}
    error = kinds.get(reason, InternalError)(message, field=field)
    error.metadata.update(metadata or {})
    return error
