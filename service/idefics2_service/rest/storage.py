"""How clients of the hosted endpoint upload files: first they ask where to, then they bring the bytes there.

Who asks shows a key; who brings the bytes needs the address only. Source: fal's clients 0.15.0 and 1.10.1
(JavaScript) and 1.0.3 (Python).
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, Field, Json

from idefics2_service.rest.contract import SENT
from idefics2_service.rest.dependencies import CurrentCall, CurrentCores, KeyId
from idefics2_service.uploads.announcements import AnnouncedFields
from idefics2_service.uploads.drafts import check_keep_seconds, fit_name
from idefics2_service.uploads.links import make_public_path

router = APIRouter(prefix="/rest/storage", tags=["storage"])

_TOKEN_LIFE = timedelta(hours=1)
_LIFECYCLE, _PREFERENCE = "X-Fal-Object-Lifecycle", "X-Fal-Object-Lifecycle-Preference"
_FIELDS = AnnouncedFields(name="file_name")


class FileBody(BaseModel):
    """A file that is to come."""

    content_type: str | None = Field(None, examples=["image/png"])
    file_name: str | None = Field(None, examples=["painting.png"])


class Lifecycle(BaseModel):
    """How long a file is wanted."""

    expiration_duration_seconds: float | None = Field(
        None, description="Seconds; more than the service keeps others changes nothing."
    )


class UploadAddress(BaseModel):
    """Where a file is brought, and where it is then."""

    upload_url: str
    file_url: str


class CdnToken(BaseModel):
    """What the cdn is shown."""

    token: str
    token_type: str
    base_url: str
    expires_at: str


async def read_keep_seconds(
    lifecycle: Annotated[Json[Lifecycle] | None, Header(alias=_LIFECYCLE)] = None,
    preference: Annotated[Json[Lifecycle] | None, Header(alias=_PREFERENCE)] = None,
) -> float | None:
    """Read how long a file is wanted; clients name the header in two ways.

    Raises:
        ValueOutOfRange: it is no time; names the header.

    """
    field, wanted = (_LIFECYCLE, lifecycle) if lifecycle else (_PREFERENCE, preference)
    seconds = wanted.expiration_duration_seconds if wanted else None
    check_keep_seconds(field.lower(), seconds or None)
    return seconds or None  # fal's clients say 0 where nothing else is wanted than is usual


KeepSeconds = Annotated[float | None, Depends(read_keep_seconds)]


@router.post("/upload/initiate", responses=SENT)
@router.post("/upload/initiate-multipart", name="initiate_multipart", responses=SENT)
async def initiate(
    body: FileBody, cores: CurrentCores, call: CurrentCall, key_id: KeyId, keep_seconds: KeepSeconds
) -> UploadAddress:
    """Say where the bytes of a file are to be PUT: as a whole, or by parts at `<upload_url>/<number>`."""
    name, content_type = fit_name(body.file_name or ""), body.content_type or ""
    file_id = await cores.announcements.announce(key_id, name, content_type, keep_seconds, _FIELDS)
    return UploadAddress(
        upload_url=call.origin.url("cdn", f"uploads/{key_id}/{file_id}"),
        file_url=call.origin.url("cdn", make_public_path(key_id, file_id, name)),
    )


@router.post("/auth/token")
async def make_token(
    call: CurrentCall, _: KeyId, authorization: Annotated[str, Header(include_in_schema=False)] = ""
) -> CdnToken:
    """Say what to show the cdn: the key itself, so that it is refused there as soon as it is revoked."""
    return CdnToken(
        token=authorization.partition(" ")[2].strip(),
        token_type="Bearer",  # noqa: S106  # a scheme
        base_url=call.origin.bases["cdn"],
        expires_at=(datetime.now(UTC) + _TOKEN_LIFE).isoformat(),
    )
