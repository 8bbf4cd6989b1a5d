"""What operators and their machines look at."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, Response

from idefics2_service.rest.dependencies import CurrentCores

router = APIRouter(tags=["probes"])


@router.get("/healthz/live", response_class=PlainTextResponse)
async def is_alive() -> str:
    """Answer 200 while the process runs."""
    return "ok\n"


@router.get("/healthz/ready", response_class=PlainTextResponse)
async def is_ready(cores: CurrentCores) -> Response:
    """Answer 200 while requests are taken, and 503 otherwise."""
    serving = cores.generation.is_serving
    return PlainTextResponse("ok\n" if serving else "not serving\n", 200 if serving else 503)


@router.get("/metrics", response_class=PlainTextResponse)
async def show_metrics(cores: CurrentCores) -> Response:
    """Show all metrics in Prometheus' text format."""
    return Response(cores.metrics.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/.well-known/jwks.json")
@router.get("/rest/.well-known/jwks.json", include_in_schema=False)
async def show_keys(cores: CurrentCores) -> JSONResponse:
    """Show the public keys that webhooks are signed with."""
    return JSONResponse(cores.signer.jwks if cores.signer else {"keys": []})
