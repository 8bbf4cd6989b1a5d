"""Plain calls over HTTP, for what no other face has."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from faces.rest import APP
from pictures import DESCRIBE, red_circle

if TYPE_CHECKING:
    import httpx
    from harness import Harness

RUN, QUEUE = f"/run/{APP}", f"/queue/{APP}"
PICTURE = "data:image/png;base64," + base64.b64encode(red_circle()).decode()
BODY = {"prompt": DESCRIBE, "image_url": PICTURE, "temperature": 0}


class Web:
    """Somebody who calls a service over HTTP."""

    def __init__(self, service: Harness, key: str | None = None) -> None:
        """Call with the service's key, unless another is given; empty: without any."""
        self.service = service
        given = service.app.api_key if key is None else key
        self.headers = {"authorization": f"Key {given}"} if given else {}

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call a path or a URL."""
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.service.http.request(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return await self.call("GET", path, **options)

    async def put(self, path: str, **options: Any) -> httpx.Response:
        """PUT."""
        return await self.call("PUT", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        """POST a question, or `content` or `json`."""
        if not options.keys() & {"content", "json"}:
            options["json"] = BODY
        return await self.call("POST", path, **options)

    async def send(self, path: str, content: bytes | str) -> httpx.Response:
        """POST text that says that it is JSON."""
        return await self.post(path, content=content, headers={"content-type": "application/json"})

    async def submit(self, **options: Any) -> dict[str, Any]:
        """Submit a question; return what is answered."""
        response = await self.post(QUEUE, **options)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def stream(self, method: str, path: str, **options: Any) -> Any:
        """Call, and read the answer as it comes."""
        return self.service.http.stream(method, path, headers=self.headers, **options)

    async def read_stream(self, method: str, path: str, **options: Any) -> bytes:
        """Read all of an answer that comes bit by bit."""
        async with self.stream(method, path, **options) as response:
            assert response.status_code == 200, await response.aread()
            data: bytes = await response.aread()
            return data
