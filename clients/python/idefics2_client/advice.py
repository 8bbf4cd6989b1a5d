"""What to do about an error, where its message may not say."""

from __future__ import annotations

_KEY = "set IDEFICS2_API_KEY or FAL_KEY, or give api_key; `idefics2-service keys create` makes a key"
_HOST = "fetch the picture yourself, and send its bytes"

SPECIAL = {
    "CONTEXT_EXCEEDED": "ask for fewer max_new_tokens, show less text or fewer images, or do not split them",
    "PAGE_TOKEN_INVALID": "list from the first page again",
    "PAYLOAD_TOO_LARGE": "send fewer images, or ask by generate or stream: they keep no images",
    "FILE_BLOCKED": _HOST,
    "FILE_NOT_FOUND": _HOST,
    "FILE_RATE_LIMITED": _HOST,
    "FILE_TOO_SLOW": _HOST,
    "FILE_UNREACHABLE": _HOST,
    "FILE_URL_FORBIDDEN": _HOST,
    "FILE_URL_UNSUPPORTED": _HOST,
    "FILE_NOT_UPLOADED": "upload it again",
    "UPLOAD_NOT_FOUND": "upload it from its beginning",
    "FILE_MISMATCH": "see whether the file changes while it is uploaded, and upload it again",
    "FILE_ALREADY_COMPLETE": "use the file as it is, or upload the other bytes as a new one",
    "FILE_QUOTA_EXCEEDED": "delete files that are not needed: `idefics2 files` lists them",
    "API_KEY_MISSING": _KEY,
    "API_KEY_INVALID": _KEY,
    "API_KEY_REVOKED": _KEY,
    "API_KEY_EXPIRED": _KEY,
    "FACE_NOT_ALLOWED": "use a key that may be used over gRPC",
    "READER_STALLED": "read each message as it comes, or submit the request and watch it",
    "SENDER_STALLED": "send it again, in smaller pieces where the network is slow",
    "REQUEST_ID_TAKEN": "choose another request_id, or leave it to the service",
    "REQUEST_NOT_FINISHED": "ask again later, or wait: watch, or result with wait",
    "ATTEMPTS_EXHAUSTED": "submit it again",
    "ATTEMPT_LOST": "submit it again",
    "METHOD_UNKNOWN": "the service is older than this client: update the service",
}
"""By `reason`: what the reason alone knows."""

_GENERAL = {
    "INVALID_ARGUMENT": "change the request: the same one will fail again",
    "UNAUTHENTICATED": _KEY,
    "PERMISSION_DENIED": "use another key",
    "NOT_FOUND": "look at the name and at the key: each key sees its own alone, for a time",
    "ALREADY_EXISTS": "choose another name",
    "FAILED_PRECONDITION": "ask again later",
    "RESOURCE_EXHAUSTED": "try again {when}",
    "UNAVAILABLE": "try again {when}, or look whether the service runs",
    "DEADLINE_EXCEEDED": "allow more time, or ask for less",
    "CANCELLED": "send it again, if it was not you who ended it",
    "UNIMPLEMENTED": SPECIAL["METHOD_UNKNOWN"],
}


SETTING = "change what the client was told of the service: the same will fail again"


def advise(reason: str, code: str, *, says_when: bool) -> str:
    """Say what to do about an error of this reason, or else of this status code.

    `says_when`: the error has a `retry_after_seconds`.
    """
    general = _GENERAL.get(code, "tell who runs the service, with the request's id: its log has the details")
    when = "after retry_after_seconds" if says_when else "later"
    return SPECIAL.get(reason, general.format(when=when))
