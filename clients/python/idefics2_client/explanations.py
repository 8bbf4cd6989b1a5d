"""What is behind a status that the service did not write itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from idefics2_client.errors import Idefics2Error, SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_client.endpoint import Endpoint

# What grpc's and BoringSSL's messages hold when no connection comes about.
_CONNECTING = "connect"  # how a failure to connect is told depends on how calls are spread
_NAMING = "resol"  # no such host
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_OTHER_NAME = "Hostname Verification Check failed"
_NO_TLS = "WRONG_VERSION_NUMBER"
_NO_GRPC = ("http1.x server", "missing selected ALPN")  # the latter where HTTP/1 is all that TLS is for
_UNHEALTHY = "backend unhealthy"
_SHUT = ("Socket closed", "Connection reset", "CERTIFICATE_REQUIRED", "Broken pipe")


def explain(call: grpc.Call, endpoint: Endpoint, *, reached: bool) -> tuple[type[Idefics2Error] | None, str]:
    """Say what a status means; the kind is that of its code where it is None."""
    details, target = call.details() or "", endpoint.target
    match call.code():
        case grpc.StatusCode.UNAVAILABLE if reached or not _is_absent(details):
            return None, f"the connection to {target} was lost before the answer was complete"
        case grpc.StatusCode.UNAVAILABLE:
            why = next(_find_mismatch(details, target), None)
            return (SettingInvalid, why) if why else (None, _explain_absence(details, endpoint))
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return None, "the timeout passed before the answer was complete"
        case grpc.StatusCode.UNIMPLEMENTED:
            what = "it is another service, or older than this client: update the service"
            return None, f"{target} does not know this call ({details or 'it says no more'}): {what}"
    return None, details or f"the call failed with {call.code().name}"


def _is_absent(details: str) -> bool:
    """Tell whether no connection came about; else there was one, and no answer over it."""
    return any(word in details for word in (_CONNECTING, _NAMING))


def _find_mismatch(details: str, target: str) -> Iterator[str]:
    """Say what will be the same at the next try."""
    ca_file = "ca_file (or IDEFICS2_CLIENT_CA_FILE)"
    if _UNTRUSTED in details:
        yield f"nobody vouches for the certificate of {target}: set {ca_file} to the authority that made it"
    if _OTHER_NAME in details:
        yield f"{target} shows a certificate of another name: use a target that the certificate names"
    if _NO_TLS in details:
        yield f"{target} does not speak TLS: leave TLS out, or use the port that has it"
    if any(words in details for words in _NO_GRPC):
        yield f"{target} speaks HTTP, not gRPC: use the gRPC port"


def _explain_absence(details: str, endpoint: Endpoint) -> str:
    target = endpoint.target
    shut = f"{target} closes the connection at once"
    if _CONNECTING in details and any(word in details for word in _SHUT):
        if endpoint.credentials is None:
            return f"{shut}: if it speaks TLS, set tls (or IDEFICS2_CLIENT_TLS=true)"
        names = (
            "certificate_file and key_file (or IDEFICS2_CLIENT_CERTIFICATE_FILE and IDEFICS2_CLIENT_KEY_FILE)"
        )
        return f"{shut}: if it wants to know who calls, set {names}"
    if _UNHEALTHY in details:
        return f"no service at {target} says that it serves: each drains, or its model is away; try later"
    where = "set IDEFICS2_CLIENT_TARGET to the address of one that runs"
    return f"no service answers at {target}: start one with `idefics2-service serve`, or {where}"
