"""Files that fal's clients bring, each in its own way."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from fal.clients import ClientError, read_output, run_client
from fal.questions import PIECES, QUESTION, TEXT
from fal.workplaces import prepare
from idefics2_service.rest.origins import FAL_HOSTS
from pictures import red_circle

if TYPE_CHECKING:
    from fal.clients import Client
    from fal.node import Node
    from fal.services import Fake
    from fal.ways import Way

FILE = {
    "base64": base64.b64encode(red_circle()).decode(),
    "name": "circle.png",
    "type": "image/png",
}

pytestmark = pytest.mark.where("can_upload")


async def test_an_image_is_uploaded_and_then_asked_about(client: Client, fake: Fake) -> None:
    fake.expect(*PIECES)
    assert read_output(await client.call("askAboutFile", input=QUESTION, **FILE)) == TEXT


@pytest.mark.parametrize("name", ["circle.png", "ein Kreis, röt.png"])  # Python's brings the latter elsewhere
async def test_what_was_uploaded_can_be_read_by_whoever_knows_its_url(
    client: Client, fake: Fake, name: str
) -> None:
    url = await client.call("upload", **{**FILE, "name": name})
    found = await download(fake, url)
    assert (found.status_code, found.content) == (200, red_circle())
    assert found.headers["content-type"] == "image/png"


async def test_an_uploaded_file_that_is_no_image_is_refused_by_name(client: Client) -> None:
    text = base64.b64encode(b"I am no picture.").decode()
    with pytest.raises(ClientError) as caught:
        await client.call("askAboutFile", input=QUESTION, base64=text, name="a.png", type="image/png")
    assert caught.value["status"] == 422
    assert "not a picture" in str(caught.value["fieldErrors"] or caught.value["message"])


async def test_who_has_no_key_uploads_nothing(way: Way, node: Node, fake: Fake) -> None:
    with prepare(node, way, fake.find_door(way.door), "wrong.0123456789abcdef0123456789abcdef") as workplace:
        async with run_client(workplace) as client:
            with pytest.raises(ClientError, match=r"401|key"):
                await client.call("upload", **FILE)


@pytest.mark.long
async def test_a_large_file_arrives_in_parts_and_is_whole(client: Client, fake: Fake) -> None:
    num_mib = 101 if client.way.is_python else 91  # one more than each brings as a whole
    url = await client.call("upload", num_mib=num_mib, **FILE)
    found = await download(fake, url)
    whole = hashlib.sha256(red_circle())
    for index in range(num_mib):
        whole.update(bytes([index]) * 2**20)
    assert hashlib.sha256(found.content).digest() == whole.digest()


async def download(fake: Fake, url: str) -> httpx.Response:
    """Fetch a file as anybody may; fal's own hosts are here."""
    parts = urlsplit(url)
    headers = {"host": parts.netloc} if parts.netloc in FAL_HOSTS else {}
    where = f"http://{fake.harness.app.http_address}{parts.path}"
    async with httpx.AsyncClient() as client:
        return await client.get(where, headers=headers)
