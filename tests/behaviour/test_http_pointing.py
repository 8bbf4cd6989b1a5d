"""Every way of pointing a client of the hosted endpoint at this service, and the URLs that it gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from faces.rest import APP
from faces.web import BODY, Web
from harness import red_circle_answer, run_on_fake_backend
from pictures import RED_CIRCLE

if TYPE_CHECKING:
    import httpx
    from harness import Harness, MakeSettings

PROXY = "/api/fal/proxy"
INITIATE, UPLOAD = "/storage/upload/initiate", "/files/upload"
"""Paths of the services of files, one of each."""
HERE = "http://HERE"
"""Stands for the address of the port."""


@dataclass(frozen=True)
class Way:
    """One way of pointing."""

    queue: str
    """What URLs of the queue begin with that callers get."""
    prefix: str = "/queue"
    run_prefix: str = "/run"
    headers: dict[str, str] = field(default_factory=dict)
    run_headers: dict[str, str] = field(default_factory=dict)
    targets: bool = False
    """Whether calls go to the proxy's path."""


def by_host(queue: str, run: str, base: str) -> Way:
    return Way(base, "", "", {"host": queue}, {"host": run})


WAYS = {
    "path prefixes": Way(f"{HERE}/queue"),
    "the hosted endpoint's names": by_host("queue.fal.run", "fal.run", "https://queue.fal.run"),
    "its names in capitals": by_host("Queue.Fal.Run", "FAL.RUN", "https://queue.fal.run"),
    "its names with a port": by_host("queue.fal.run:443", "fal.run:443", "https://queue.fal.run"),
    "where Python goes when those fail": by_host(
        "queue.falrun.com", "falrun.com", "https://queue.falrun.com"
    ),
    "names of one's own": by_host("queue.ai.example", "ai.example", "http://queue.ai.example"),
    "names of one's own with a port": by_host(
        "queue.ai.example:8080", "ai.example:8080", "http://queue.ai.example:8080"
    ),
    "the proxy's path": Way(f"{HERE}/queue", "https://queue.fal.run", "https://fal.run", targets=True),
    "the proxy's path and the other names": Way(
        f"{HERE}/queue", "https://queue.falrun.com:443", "https://falrun.com", targets=True
    ),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


class Pointed(Web):
    """Somebody whose client points here in some way."""

    def __init__(self, service: Harness, way: Way) -> None:
        super().__init__(service)
        self.way = way
        self.here = f"http://{service.app.http_address}"

    async def queue(self, method: str, path: str) -> httpx.Response:
        """Call the queue."""
        return await self._reach(method, self.way.prefix, path, self.way.headers)

    async def run(self, path: str = f"/{APP}") -> httpx.Response:
        """Call the other one."""
        return await self._reach("POST", self.way.run_prefix, path, self.way.run_headers)

    async def _reach(self, method: str, prefix: str, path: str, headers: dict[str, str]) -> httpx.Response:
        body = BODY if method == "POST" else None
        if self.way.targets:
            target = {"x-fal-target-url": prefix + path}
            return await self.call(method, PROXY, headers=target, json=body)
        return await self.call(method, prefix + path, headers=headers, json=body)

    async def follow(self, method: str, url: str) -> httpx.Response:
        """Call a URL that was returned; what a client's machine looks up is looked up here."""
        base = self.way.queue.replace(HERE, self.here)
        assert url.startswith(f"{base}/{APP}/requests/"), url
        path = url.removeprefix(base)
        if self.way.queue.startswith(HERE):
            return await self.call(method, url)
        return await self.call(method, path, headers=self.way.headers)


@each_way
async def test_a_question_is_answered(on_fake_backend: Harness, way: Way) -> None:
    on_fake_backend.expect(red_circle_answer(), red_circle_answer())
    caller = Pointed(on_fake_backend, way)
    for path in (f"/{APP}", f"/{APP}/"):
        response = await caller.run(path)
        assert (response.status_code, response.json()) == (200, {"output": RED_CIRCLE})


@each_way
async def test_the_urls_that_come_back_work(on_fake_backend: Harness, way: Way) -> None:
    on_fake_backend.expect(red_circle_answer())
    caller = Pointed(on_fake_backend, way)
    taken = (await caller.queue("POST", f"/{APP}")).json()
    stream = await caller.follow("GET", taken["status_url"] + "/stream")
    assert stream.text.count('"COMPLETED"') == 1
    status = await caller.follow("GET", taken["status_url"])
    assert status.status_code == 200
    named = ("request_id", "response_url", "status_url", "cancel_url")
    assert [status.json()[name] for name in named] == [taken[name] for name in named]
    assert (await caller.follow("GET", taken["response_url"])).json() == {"output": RED_CIRCLE}
    assert (await caller.follow("PUT", taken["cancel_url"])).status_code == 400


@each_way
async def test_a_client_that_builds_urls_by_itself_finds_the_request(
    on_fake_backend: Harness, way: Way
) -> None:
    on_fake_backend.expect(red_circle_answer())
    caller = Pointed(on_fake_backend, way)
    request_id = (await caller.queue("POST", f"/{APP}/")).json()["request_id"]
    path = f"/{APP}/requests/{request_id}"
    stream = await caller.queue("GET", f"{path}/status/stream?logs=1")
    assert "PNG, 200 x 150" in stream.text
    for slash in ("", "/"):
        logs = (await caller.queue("GET", f"{path}/status{slash}?logs=1")).json()["logs"]
        assert "PNG, 200 x 150" in logs[0]["message"]
        assert (await caller.queue("GET", f"{path}{slash}")).json() == {"output": RED_CIRCLE}
        assert (await caller.queue("PUT", f"{path}/cancel{slash}")).status_code == 400


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("rest.fal.ai", INITIATE),
        ("rest.alpha.fal.ai", INITIATE),
        ("v3.fal.media", UPLOAD),
        ("rest.ai.example", INITIATE),
        ("v3.ai.example", UPLOAD),
    ],
)
async def test_the_other_names_are_those_of_files(on_fake_backend: Harness, host: str, path: str) -> None:
    caller = Web(on_fake_backend)
    other = UPLOAD if path == INITIATE else INITIATE
    for asked, status in ((path, 405), (other, 404)):
        assert (await caller.get(asked, headers={"host": host})).status_code == status
        if host.startswith(("rest.fal", "rest.alpha", "v3.fal")):
            response = await caller.get(PROXY, headers={"x-fal-target-url": f"https://{host}{asked}"})
            assert response.status_code == status


@pytest.mark.parametrize("host", ["", "queue.fal.run", "rest.ai.example", "v3.fal.media"])
async def test_a_path_that_is_not_there_is_named_as_it_was_asked_for(
    on_fake_backend: Harness, host: str
) -> None:
    caller, headers = Web(on_fake_backend), {"host": host} if host else {}
    for path, told in (("/nowhere", "/nowhere"), ("/nowhere/", "/nowhere/"), ("/a%0Ab", "/a%0Ab")):
        response = await caller.get(path, headers=headers)
        assert (response.status_code, response.json()["detail"]) == (404, f"Path {told} not found")
    target = {"x-fal-target-url": "https://queue.fal.run/nowhere?x=1"}
    response = await caller.get(PROXY, headers=target)
    assert response.json()["detail"] == "Path /nowhere not found"


@pytest.mark.parametrize(
    "target",
    [
        None,
        "",
        "/fal-ai/idefics-2-8b",
        f"http://fal.run/{APP}",
        f"https://example.com/{APP}",
        f"https://fal.run.example.com/{APP}",
        f"https://fal.run@example.com/{APP}",
        f"https://example.com@fal.run/{APP}",
        f"https://fal.run:444/{APP}",
        f"ftp://fal.run/{APP}",
        "https://[",
        "https://[::1]/",
        "https://" + "x" * 5_000,
    ],
)
async def test_a_target_that_is_none_of_fals_is_refused(on_fake_backend: Harness, target: str | None) -> None:
    headers = {} if target is None else {"x-fal-target-url": target}
    response = await Web(on_fake_backend).post(PROXY, headers=headers)
    assert (response.status_code, response.json()["error_type"]) == (400, "bad_request")
    assert response.json()["detail"].startswith("x-fal-target-url must be an https URL of ")
    assert len(response.content) < 1_000
    assert response.headers["x-fal-request-id"]


async def test_a_key_is_asked_for_behind_the_proxys_path_too(on_fake_backend: Harness) -> None:
    headers = {"x-fal-target-url": f"https://fal.run/{APP}"}
    response = await Web(on_fake_backend, "").post(PROXY, headers=headers)
    assert response.status_code == 401


@pytest.mark.parametrize("headers", [{}, {"host": "queue.ai.example"}], ids=["by path", "by name"])
async def test_where_a_proxy_stands_before_the_port_urls_are_the_proxys(
    make_settings: MakeSettings, headers: dict[str, str]
) -> None:
    settings = make_settings(http__public_url="https://ai.example/idefics/")
    async with run_on_fake_backend(settings) as service:
        service.expect(red_circle_answer())
        path = f"/{APP}" if headers else f"/queue/{APP}"
        taken = (await Web(service).post(path, headers=headers)).json()
        url = f"https://ai.example/idefics/queue/{APP}/requests/{taken['request_id']}"
        assert (taken["response_url"], taken["status_url"]) == (url, f"{url}/status")


async def test_operators_paths_are_the_same_under_every_name(on_fake_backend: Harness) -> None:
    for host in ("fal.run", "queue.fal.run", "rest.fal.ai", "ai.example"):
        for path in ("/healthz/live", "/healthz/ready/", "/metrics", "/.well-known/jwks.json"):
            response = await Web(on_fake_backend, "").get(path, headers={"host": host})
            assert response.status_code == 200, (host, path)
