"""No URL reaches the canary inside: not of an image, not of a webhook, not by redirects, not by names."""

from __future__ import annotations

import re
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from pictures import RED_CIRCLE
from security.canary import OUTSIDE
from security.conftest import run_target
from security.payloads import BY_REASON, UNREACHABLE

if TYPE_CHECKING:
    from harness import MakeSettings
    from security.canary import Canary, Speaker
    from security.names import NameServer
    from security.target import Target

STATUSES = (301, 302, 303, 307, 308)
NEVER_TAKEN = [reason for reason in BY_REASON if reason != "FILE_UNREACHABLE"]
"""Of a webhook. What is unreachable now may have an address when it is called."""
EVERY_URL = [url for urls in BY_REASON.values() for url in urls]


@pytest.fixture(autouse=True)
def nobody_came(canary: Canary) -> None:
    """Begin to count."""
    canary.num_connections = 0


def aim(url: str, canary: Canary) -> str:
    """Write a URL for the canary's port."""
    return url.replace("{port}", str(canary.port))


@pytest.mark.parametrize("reason", BY_REASON)
async def test_no_url_of_an_image_leads_inside(target: Target, reason: str) -> None:
    for url in BY_REASON[reason]:
        assert (await target.refuse(aim(url, target.canary))).reason == reason, url
        assert target.canary.num_connections == 0, url
    await target.check_alive()


async def test_nobody_is_told_which_names_lead_inside_and_which_nowhere(target: Target) -> None:
    told = set()
    for url in UNREACHABLE:
        message = (await target.refuse(aim(url, target.canary))).message
        (host,) = re.findall(r"the host (\S+) ", message)
        told.add(message.replace(host, "HOST"))
    assert told == {"image_url: the host HOST has no public address"}


@pytest.mark.parametrize("reason", NEVER_TAKEN)
async def test_no_url_of_a_webhook_leads_inside(target: Target, reason: str) -> None:
    for url in BY_REASON[reason]:
        refusal = await target.refuse_hook(aim(url, target.canary))
        assert (refusal.reason, refusal.field) == ("WEBHOOK_URL_INVALID", "webhook_url"), url
        assert target.canary.num_connections == 0, url


async def test_no_webhook_is_called_whose_name_leads_inside(target: Target) -> None:
    for url in UNREACHABLE:
        await target.tell(aim(url, target.canary))
        assert target.canary.num_connections == 0, url


async def test_no_redirect_leads_inside(target: Target) -> None:
    for url, status in zip(EVERY_URL, cycle(STATUSES), strict=False):
        await check_redirect(target, url, status)
    await target.check_alive()


@pytest.mark.long
@pytest.mark.parametrize("status", STATUSES)
async def test_no_redirect_of_any_kind_leads_inside(target: Target, status: int) -> None:
    for url in EVERY_URL:
        await check_redirect(target, url, status)
    await target.check_alive()


async def check_redirect(target: Target, url: str, status: int) -> None:
    """Be sent inside by somebody outside."""
    target.outside.redirect(aim(url, target.canary), status)
    refusal = await target.refuse(target.outside.url)
    assert refusal.reason in {"FILE_URL_FORBIDDEN", "FILE_UNREACHABLE"}, url
    assert "secret" not in refusal.message, url
    assert target.canary.num_connections == 0, url


@pytest.mark.parametrize("status", STATUSES)
async def test_no_redirect_of_a_webhook_is_followed(target: Target, status: int) -> None:
    target.outside.num_connections = 0
    target.outside.redirect(aim("http://127.0.0.1:{port}/", target.canary), status)
    await target.tell(target.outside.url)
    assert target.outside.num_connections == 2  # it was tried again, and then given up
    assert target.canary.num_connections == 0


async def test_a_name_that_moves_inside_after_it_was_looked_up_is_dialled_where_it_was(
    target: Target,
) -> None:
    target.names.set("rebinding.example", [OUTSIDE], ["127.0.0.1"])
    target.outside.say(b"HTTP/1.1 404 Nothing here\r\nContent-Length: 0\r\n\r\n")
    url = f"http://rebinding.example:{target.outside.port}/"
    assert (await target.refuse(url)).reason == "FILE_NOT_FOUND"
    assert target.names.num_looks["rebinding.example"] == 1
    assert (await target.refuse(url)).reason == "FILE_UNREACHABLE"
    assert (await target.refuse(aim("http://rebinding.example:{port}/", target.canary))).reason == (
        "FILE_UNREACHABLE"
    )
    assert target.canary.num_connections == 0


async def test_a_name_that_moves_inside_between_two_redirects_is_refused(target: Target) -> None:
    target.names.set("rebinding.example", [OUTSIDE], ["127.0.0.1"])
    target.outside.redirect(aim("http://rebinding.example:{port}/", target.canary))
    url = f"http://rebinding.example:{target.outside.port}/"
    assert (await target.refuse(url)).reason == "FILE_UNREACHABLE"
    assert target.canary.num_connections == 0


async def test_a_hook_whose_name_moves_inside_after_it_was_checked_is_not_called(target: Target) -> None:
    target.names.set("hook.example", [OUTSIDE], ["127.0.0.1"])
    await target.tell(aim("http://hook.example:{port}/", target.canary))
    assert target.names.num_looks["hook.example"] == 3  # when it was taken, and at both attempts
    assert target.canary.num_connections == 0


@pytest.mark.parametrize(
    "addresses",
    [[OUTSIDE, "127.0.0.1"], ["127.0.0.1", OUTSIDE], [OUTSIDE, "::1"], [OUTSIDE, OUTSIDE, "10.0.0.1"]],
)
async def test_a_name_with_one_foot_inside_is_not_dialled_at_all(
    target: Target, addresses: list[str]
) -> None:
    target.names.set("mixed-allowed.example", addresses)
    target.outside.num_connections = 0
    for port in (target.canary.port, target.outside.port):
        url = f"http://mixed-allowed.example:{port}/"
        assert (await target.refuse(url)).reason == "FILE_UNREACHABLE"
        await target.tell(url)
    assert (target.canary.num_connections, target.outside.num_connections) == (0, 0)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://127.13.37.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://①②⑦.⓪.⓪.①:{port}/",
        "http://0.0.0.0:{port}/",
        "http://localtest.me:{port}/",
    ],
)
async def test_the_canary_sings_where_an_operator_lets_them_in(
    make_settings: MakeSettings, canary: Canary, outside: Speaker, names: NameServer, url: str
) -> None:
    open_door = {"fetch__allowed_networks": "0.0.0.0/0,::/0"}
    async with run_target(make_settings, canary, outside, names, **open_door) as target:
        assert await target.fetch(aim(url, canary)) == RED_CIRCLE
        assert canary.num_connections == 1
        outside.redirect(aim(url, canary))
        assert await target.fetch(outside.url) == RED_CIRCLE
        assert canary.num_connections == 2
        await target.tell(aim(url, canary))
        assert canary.num_connections == 3
