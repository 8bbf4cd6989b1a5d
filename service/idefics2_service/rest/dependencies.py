"""What the routes of the face ask of a call.

All are `async`: FastAPI runs others in a thread each, which has no event loop, and costs more than they do.
Few ask for each other: FastAPI goes through all of that for each call, and a status is asked for very often.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Path, Request, Security

from idefics2_service.errors import RequestCancelled, RequestIdInvalid, RequestNotFound
from idefics2_service.gate import Gate
from idefics2_service.generation import Generation
from idefics2_service.keys.records import Key
from idefics2_service.metrics import Metrics
from idefics2_service.requests import Deadlines, RequestName
from idefics2_service.rest.calls import Call
from idefics2_service.rest.contract import KEY
from idefics2_service.rest.problems import Problem
from idefics2_service.settings import LimitSettings
from idefics2_service.signatures import Signer
from idefics2_service.store.records import DAY_SECONDS
from idefics2_service.submissions import Submissions, check_seconds, name_request
from idefics2_service.uploads.announcements import Announcements
from idefics2_service.uploads.library import Library


@dataclass(frozen=True)
class Cores:
    """What the face is a face of."""

    gate: Gate
    generation: Generation
    submissions: Submissions
    library: Library
    announcements: Announcements
    limits: LimitSettings
    metrics: Metrics
    signer: Signer | None
    app_id: str
    """Under which name the model is called."""


async def get_cores(request: Request) -> Cores:
    """Return what is behind the face."""
    cores: Cores = request.app.state.cores
    return cores


async def get_call(request: Request) -> Call:
    """Return what is known of the call."""
    call: Call = request.scope["state"]["call"]
    return call


CurrentCores = Annotated[Cores, Depends(get_cores)]
CurrentCall = Annotated[Call, Depends(get_call)]


_Key = Annotated[str | None, Security(KEY)]
"""Says in the description that a key is needed; `rest.calls` has looked at it."""


async def get_key(request: Request, _: _Key) -> Key:
    """Return the key that was shown."""
    return _read_key(await get_call(request))


async def get_key_id(request: Request, _: _Key) -> str:
    """Return whose call it is."""
    return _read_key(await get_call(request)).id


def _read_key(call: Call) -> Key:
    if call.key is None:
        raise TypeError("rest.calls asks for a key only where a path says so: this one does not")
    return call.key


CurrentKey = Annotated[Key, Depends(get_key)]
KeyId = Annotated[str, Depends(get_key_id)]


async def check_app(
    request: Request,
    owner: Annotated[str, Path()],
    alias: Annotated[str, Path()],
) -> str:
    """Return the app that is called.

    Raises:
        Problem: it is not served here.

    """
    app_id, here = f"{owner}/{alias}", (await get_cores(request)).app_id
    if app_id != here:
        raise Problem(404, "app_not_found", f"Application {app_id} not found; here is {here}")
    return app_id


async def name_new(request: Request, _: _Key) -> RequestName:
    """Name the request that the call makes."""
    call = await get_call(request)
    return RequestName(_read_key(call).id, call.request_id)


async def name_known(request_id: str, request: Request, _: _Key) -> RequestName:
    """Name the request that the path is about.

    Raises:
        RequestNotFound: no request can have this name.

    """
    call = await get_call(request)
    try:
        name = name_request(_read_key(call).id, request_id)
    except RequestIdInvalid as error:
        raise RequestNotFound("this key has no request of this name") from error
    call.request_id = request_id
    return name


NewName = Annotated[RequestName, Depends(name_new)]
KnownName = Annotated[RequestName, Depends(name_known)]


async def read_start_timeout(
    seconds: Annotated[
        float | None,
        Header(
            alias="X-Fal-Request-Timeout",
            description="Seconds within which the request must be begun; more than a day is a day.",
            json_schema_extra={"exclusiveMinimum": 0},
        ),
    ] = None,
) -> float | None:
    """Read within which time a request must be begun: clients send their own patience, which may be longer.

    Raises:
        ValueOutOfRange: it is not above 0.

    """
    return check_seconds("start_timeout", None if seconds is None else min(seconds, DAY_SECONDS))


StartTimeout = Annotated[float | None, Depends(read_start_timeout)]


async def read_deadlines(start_timeout: StartTimeout) -> Deadlines:
    """Put what a call says of its time on the event loop's clock."""
    loop = asyncio.get_running_loop()
    return Deadlines(start=None if start_timeout is None else loop.time() + start_timeout)


CurrentDeadlines = Annotated[Deadlines, Depends(read_deadlines)]


@asynccontextmanager
async def while_present(request: Request) -> AsyncIterator[None]:
    """Give up what is inside when the caller leaves; the body has been read.

    Raises:
        RequestCancelled: the caller left, so nobody will hear of it.

    """
    presence = asyncio.timeout(None)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        presence.reschedule(asyncio.get_running_loop().time())

    try:
        async with presence:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError as error:
        if not presence.expired():
            raise
        raise RequestCancelled("the caller left") from error
