"""From a caller's arguments to a request that outlives the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from idefics2.v1.requests_pb2 import Priority, SubmitRequest

from idefics2_client.names import read_name
from idefics2_client.requests import Options, make_duration, make_message, make_request

if TYPE_CHECKING:
    from idefics2_client.images import ImageSource
    from idefics2_client.names import PriorityName


class SubmitOptions(Options, total=False):
    """What may be said of a submitted request beside image and prompt; None is as good as left out."""

    request_id: str | None
    """Names the request, and makes sending it again safe: 1 to 128 of `A-Z a-z 0-9 . _ -`. Default: made."""
    priority: PriorityName | None
    """`low` goes behind all others, but not for ever. Default `normal`."""
    start_timeout_seconds: float | None
    """The request fails if it is not begun so long after it was taken. Above 0, up to a day. Default: as the
    time budget."""
    time_budget_seconds: float | None
    """The request fails if it has not ended so long after it was taken. Above 0. Default and most: a day."""
    webhook_url: str | None
    """A public http(s) address that is told of the end by a signed POST. Default: none."""
    keep_seconds: float | None
    """Forget the request so long after its end, or once its webhook was told or given up, whatever is later.
    Above 0, up to a day. Default and most: as the service keeps others."""
    max_queue_length: int | None
    """Refuse the request if more than so many are before it, 0 or more. Default: as the service is set."""


_OWN = SubmitOptions.__annotations__.keys() - Options.__annotations__.keys()


def make_submission(image: ImageSource, prompt: str, options: SubmitOptions) -> SubmitRequest:
    """Write a submission; reads the files of its images, so it blocks.

    Raises:
        ImageUnreadable: the file of an image is missing or cannot be read.
        InvalidRequest: an image is too large, a number too large for the wire, a text not Unicode, or the
            priority not one.
        TypeError: there is no such option, or a value is of another type.

    """
    asked = {name: value for name, value in options.items() if name not in _OWN}
    return make_message(
        SubmitRequest,
        input=make_request(image, prompt, cast("Options", asked)),
        request_id=options.get("request_id"),
        priority=read_name(Priority.DESCRIPTOR, options.get("priority"), "priority"),
        start_timeout=make_duration("start_timeout", options.get("start_timeout_seconds")),
        time_budget=make_duration("time_budget", options.get("time_budget_seconds")),
        webhook_url=options.get("webhook_url"),
        max_queue_length=options.get("max_queue_length"),
        keep=make_duration("keep", options.get("keep_seconds")),
    )
