"""The HTTP face as a whole: the hosted endpoint's API, and what operators look at."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp

from idefics2_service.errors import InvalidInput, ServiceError, let_go_of_frames
from idefics2_service.gate import Gate
from idefics2_service.metrics import Metrics
from idefics2_service.rest import answers, cdn, page, probes, queue, storage
from idefics2_service.rest.bodies import GenerateBody
from idefics2_service.rest.calls import METHODS, Calls, explain
from idefics2_service.rest.content import explain_parsing, explain_type
from idefics2_service.rest.contract import ANY_CALL, TAGS, mend
from idefics2_service.rest.dependencies import Cores
from idefics2_service.rest.origins import Pointing
from idefics2_service.rest.problems import Problem
from idefics2_service.settings import HttpSettings
from idefics2_service.tracing.spans import Tracer
from idefics2_service.validation import validate

_DESCRIPTION = "Ask Idefics2 about images. The same paths, bodies and headers as the hosted endpoint's."
_EXPOSED = ["x-fal-request-id", "x-fal-request-timeout-type", "x-fal-error-type", "retry-after"]
"""Headers of an answer that scripts of other origins may read."""
_WRONG_METHOD = 405
_Explain = Callable[[Request, Exception], Awaitable[JSONResponse]]


def make_face(
    cores: Cores,
    gate: Gate,
    metrics: Metrics,
    settings: HttpSettings,
    facts: page.PageFacts,
    tracer: Tracer,
) -> ASGIApp:
    """Build the face: CORS, then where a call points, then who calls, then the routes."""
    return CORSMiddleware(
        Pointing(Calls(make_api(cores, facts), gate, metrics, settings, tracer), settings.public_url),
        allow_origins=settings.origins,
        allow_methods=["GET", "POST", "PUT"],
        allow_headers=["*"],  # answered by naming what was asked for, so that it covers Authorization
        expose_headers=_EXPOSED,
    )


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        mend(document, self.state.cores.app_id)
        return document


def make_api(cores: Cores, facts: page.PageFacts) -> FastAPI:
    """Build the routes, which need `Calls` before them; the page says `facts`."""
    api = _Api(
        title="Idefics2",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,
        strict_content_type=False,  # a body without a type is JSON, too: keys are no cookies
    )
    api.state.cores = cores
    for router in (answers.router, queue.router, storage.router, cdn.router):
        api.include_router(router, responses=ANY_CALL)
    api.include_router(probes.router)
    api.include_router(page.make_router(facts))
    for kind in (ServiceError, Problem, HTTPException):
        api.add_exception_handler(kind, _letting_go(_explain))
    api.add_exception_handler(RequestValidationError, _letting_go(_explain_faults))
    api.add_exception_handler(Exception, _explain)  # its frames are still to be logged
    api.openapi()  # builds what FastAPI would else build at its first calls, while everybody waits
    return api


def _letting_go(explain: _Explain) -> _Explain:
    """Let go of an error's frames once it is told: FastAPI's hold the body, and the error itself."""

    async def explain_and_let_go(request: Request, error: Exception) -> JSONResponse:
        try:
            return await explain(request, error)
        finally:
            let_go_of_frames(error)

    return explain_and_let_go


async def _explain(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException) and error.detail == "Not Found":
        asked_path = request.scope["state"]["asked_path"]
        return Problem(404, "not_found", f"Path {asked_path} not found").response()
    if isinstance(error, HTTPException) and (unread := explain_parsing(error.__cause__)):
        error = unread
    if isinstance(error, HTTPException) and error.status_code == _WRONG_METHOD:
        error.headers = {"allow": ", ".join(_list_methods(request))}
    return explain(error, request.scope["state"]["call"]).response()


def _list_methods(request: Request) -> Iterator[str]:
    """List the methods that the path of a call takes, on all routes together."""
    for method in sorted(METHODS):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes):
            yield method


async def _explain_faults(request: Request, error: Exception) -> JSONResponse:
    """Tell of what has the wrong type, and of all else that is wrong beside it."""
    faults: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    body = getattr(error, "body", None)
    if isinstance(body, bytes | bytearray):  # of another type than JSON, so that nobody looked into it
        faults = [fault for fault in faults if fault["loc"][0] != "body"]
        return Problem.of_faults(faults, [explain_type(request.headers)]).response()
    is_question = isinstance(body, dict) and request.url.path.startswith(("/run/", "/queue/"))
    others = _find_others(body, faults, request.app.state.cores) if is_question else []
    return Problem.of_faults(faults, others).response()


def _find_others(body: Any, faults: list[Any], cores: Cores) -> list[InvalidInput]:
    """Check the rest of a question as if what is known to be wrong had been left out."""
    wrong = {fault["loc"][1] for fault in faults if len(fault["loc"]) > 1 and fault["loc"][0] == "body"}
    try:
        rest = GenerateBody.model_validate({name: value for name, value in body.items() if name not in wrong})
        validate(rest.read(), cores.limits)
    except InvalidInput as error:
        error = error.without_frames()
        return [each for each in (error, *error.others) if each.field not in wrong]
    return []
