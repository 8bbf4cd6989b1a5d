"""What a webhook is told, in the hosted endpoint's words, so that those who verify its calls verify ours."""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial
from typing import TYPE_CHECKING

from idefics2_service.events import Failed, Finished
from idefics2_service.rest.problems import Problem

if TYPE_CHECKING:
    from idefics2_service.signatures import Signer
    from idefics2_service.store.records import Record
    from idefics2_service.webhooks import WriteCall


def make_write_call(signer: Signer) -> WriteCall:
    """Sign calls with `signer`."""
    return partial(_write_call, signer)


def _write_call(signer: Signer, record: Record) -> tuple[bytes, dict[str, str]]:
    """Write body and headers; the signature covers id, key, time and the hash of the body, a line each."""
    body = json.dumps(_write_body(record)).encode()
    request_id, key_id, timestamp = record.name.request_id, record.name.key_id, str(int(time.time()))
    message = "\n".join((request_id, key_id, timestamp, hashlib.sha256(body).hexdigest())).encode()
    return body, {
        "Content-Type": "application/json",
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": key_id,
        "X-Fal-Webhook-Timestamp": timestamp,
        "X-Fal-Webhook-Signature": signer.sign(message),
    }


def _write_body(record: Record) -> dict[str, object]:
    ids: dict[str, object] = {
        "request_id": record.name.request_id,
        "gateway_request_id": record.name.request_id,
    }
    match record.end:
        case Finished(output):
            return {**ids, "status": "OK", "payload": {"output": output.output}}
        case Failed(error):
            problem = Problem.of(error)
            told = {"error": f"Invalid status code: {problem.status}", "payload": problem.body}
            return {**ids, "status": "ERROR", **told}
        case None:
            raise ValueError("a request is told of at its end only")
