"""What is promised to a person who asks: the way from a question to its answer, and what may come between."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from fakes.cable import lay_cable
from idefics2_service.app import App
from page.spoken import SpokenBackend
from pictures import RED_CIRCLE, RED_CIRCLE_PIECES, draw_red_circle, encode, red_circle
from playwright.async_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from harness import MakeSettings
    from idefics2_service.store.records import Record
    from idefics2_service.submissions import SubmitInput
    from page.conftest import MakeVisitor, Spoken
    from page.visitor import Visitor
    from playwright.async_api import Route


async def test_the_answer_is_seen_as_it_is_written_and_then_its_figures(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    await expect(visitor.at("#picture-name")).to_contain_text("red circle.png")
    await expect(visitor.at("#picture-name")).to_contain_text("200 × 150")
    await visitor.ask("What is this?")
    spoken.backend.say("A", " red")
    await visitor.see_text("A red")
    await expect(visitor.at("[aria-current=step]")).to_contain_text("Writing")
    await expect(visitor.at("#figures")).to_be_hidden()
    spoken.backend.say(*RED_CIRCLE_PIECES[2:])
    await visitor.see_text(RED_CIRCLE)
    spoken.backend.end()
    await visitor.wait_for("done")
    await expect(visitor.at("#num_generated_tokens")).to_have_text("9 tokens")
    await expect(visitor.at("#num_prompt_tokens")).to_contain_text("49 tokens")
    await expect(visitor.at("#finish_reason")).to_have_text("by itself")
    for stage in ("upload", "queue", "image", "reading", "writing"):
        await expect(visitor.at(f"[data-stage={stage}] b")).to_contain_text("s")


async def test_what_is_asked_is_what_the_fields_say(visitor: Visitor, spoken: Spoken, picture: Path) -> None:
    await visitor.choose(picture, spoken.key)
    await visitor.at("summary").click()
    given = {"temperature": "0.9", "repetition_penalty": "1.5", "top_p": "0.7", "max_new_tokens": "64"}
    for name, value in {**given, "seed": "18446744073709551615"}.items():
        await visitor.at(f"#{name}").fill(value)
    spoken.backend.end()
    await visitor.ask("Why?\nבבקשה")
    await visitor.wait_for("done")
    (asked,) = spoken.backend.requests
    assert asked.images[0].data == red_circle()
    request = asked.request
    assert (request.prompt, request.temperature, request.top_p) == ("Why?\nבבקשה", 0.9, 0.7)
    assert (request.repetition_penalty, request.max_new_tokens) == (1.5, 64)
    assert request.seed == 2**64 - 1
    await expect(visitor.at("#used_seed")).to_have_text("18446744073709551615")


async def test_what_is_left_as_it_is_has_the_hosted_endpoints_defaults(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    spoken.backend.end()
    await visitor.ask("What is this?")
    await visitor.wait_for("done")
    request = spoken.backend.requests[0].request
    assert (request.temperature, request.repetition_penalty) == (0.4, 1.2)
    assert (request.top_p, request.max_new_tokens) == (0.8, 512)


async def test_who_waits_sees_the_place_in_the_queue_and_can_leave_it(
    make_visitor: MakeVisitor, spoken: Spoken, picture: Path
) -> None:
    await spoken.backend.set_healthy(healthy=False)  # so that all wait
    first, second, third = [await make_visitor() for _ in range(3)]
    places = ("yours is next", "1 is before yours", "2 are before yours")
    for visitor, place in zip((first, second, third), places, strict=True):
        await visitor.come()
        await visitor.choose(picture, spoken.key)
        await visitor.ask(place)
        await expect(visitor.at("#state")).to_have_text(f"In the queue: {place}.")
    await second.at("#cancel").click()
    await second.wait_for("cancelled")
    await expect(third.at("#state")).to_have_text("In the queue: 1 is before yours.")
    await spoken.backend.set_healthy(healthy=True)
    for visitor, answer in ((first, "First"), (third, "Third")):
        spoken.backend.say(answer)
        spoken.backend.end()
        await visitor.wait_for("done")
        await visitor.see_text(answer)
    assert [asked.request.prompt for asked in spoken.backend.requests] == [places[0], places[2]]


async def test_what_is_written_can_be_cancelled_and_another_question_asked(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    await visitor.ask("Go on?")
    spoken.backend.say("On and on")
    await visitor.see_text("On and on")
    await visitor.at("#cancel").click()
    await visitor.wait_for("cancelled")
    await spoken.backend.cancelled.wait()
    await visitor.see_text("On and on")  # what there was is not taken away
    await expect(visitor.at("#cancel")).to_be_hidden()
    await expect(visitor.at("#go")).to_be_focused()
    spoken.backend.say("Yes.")
    spoken.backend.end()
    await visitor.ask("Again?")
    await visitor.wait_for("done")
    await visitor.see_text("Yes.")


async def test_a_question_is_asked_once_however_often_the_button_is_pressed(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    await visitor.ask("One?")
    for _ in range(3):
        await visitor.at("#go").click(force=True)
    spoken.backend.end()
    await visitor.wait_for("done")
    assert len(spoken.backend.requests) == 1


async def test_a_large_image_is_uploaded_as_it_is_and_the_upload_is_seen(
    visitor: Visitor, spoken: Spoken, tmp_path: Path
) -> None:
    path = tmp_path / "large.bmp"
    path.write_bytes(encode(draw_red_circle((1500, 1200)), "BMP"))
    assert path.stat().st_size > 5_000_000
    await visitor.choose(path, spoken.key)
    spoken.backend.end()
    await visitor.ask("What is this?")
    await visitor.wait_for("done")
    assert any("/cdn/uploads/" in url for url in visitor.requests)
    assert spoken.backend.requests[0].images[0].data == path.read_bytes()


async def test_an_upload_on_its_way_can_be_cancelled(
    visitor: Visitor, spoken: Spoken, tmp_path: Path
) -> None:
    visitor.may_fail = True
    path = tmp_path / "large.bmp"
    path.write_bytes(encode(draw_red_circle((1500, 1200)), "BMP"))
    await visitor.page.route("**/cdn/uploads/**", lambda _: None)  # it never arrives
    await visitor.choose(path, spoken.key)
    async with visitor.page.expect_request("**/cdn/uploads/**"):
        await visitor.ask("What is this?")
    await visitor.at("#cancel").click()
    await visitor.wait_for("cancelled")
    assert not spoken.backend.requests


async def test_what_is_cancelled_before_it_has_a_name_is_cancelled_as_soon_as_it_has_one(
    visitor: Visitor, spoken: Spoken, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, heard = asyncio.Event(), asyncio.Event()
    submissions = spoken.app._submissions
    submit = submissions.submit

    async def submit_slowly(key_id: str, given: SubmitInput) -> Record:
        record = await submit(key_id, given)
        taken.set()
        await heard.wait()
        return record

    monkeypatch.setattr(submissions, "submit", submit_slowly)
    await visitor.choose(picture, spoken.key)
    await visitor.ask("What is this?")
    await taken.wait()
    await visitor.at("#cancel").click()
    await expect(visitor.at("#state")).to_have_text("Cancelling.")
    heard.set()
    await visitor.wait_for("cancelled")
    await spoken.backend.cancelled.wait()


async def test_an_answer_goes_on_where_it_was_when_the_network_was_cut(
    make_visitor: MakeVisitor, spoken: Spoken, picture: Path
) -> None:
    async with lay_cable(spoken.app.http_address) as (cable, address):
        visitor = await make_visitor(f"http://{address}/")
        visitor.may_fail = True
        await visitor.come()
        await visitor.choose(picture, spoken.key)
        await visitor.ask("What is this?")
        spoken.backend.say("A red")
        await visitor.see_text("A red")
        for piece, text in ((" circle", "A red circle"), (".", "A red circle.")):
            async with visitor.page.expect_request("**/status/stream?*"):
                cable.cut()
            spoken.backend.say(piece)
            await visitor.see_text(text)
        spoken.backend.end()
        await visitor.wait_for("done")
    assert len(spoken.backend.requests) == 1


async def test_an_answer_goes_on_where_it_was_when_the_service_was_away(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    visitor.may_fail = True  # nobody answers for a while
    await visitor.choose(picture, spoken.key)
    await visitor.ask("What is this?")
    spoken.backend.say("A red")
    await visitor.see_text("A red")
    await spoken.app.__aexit__(None, None, None)
    await expect(visitor.at("#state")).to_contain_text("The connection was lost.")
    await visitor.see_text("A red")
    port = int(spoken.app.http_address.rpartition(":")[2])
    http = spoken.settings.http.model_copy(update={"port": port})
    backend = SpokenBackend()
    async with App(spoken.settings.model_copy(update={"http": http}), backend):
        backend.say(*RED_CIRCLE_PIECES)
        await visitor.see_text(RED_CIRCLE)
        backend.end()
        await visitor.wait_for("done")


async def test_what_was_asked_before_stays_to_be_read_and_asked_again(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    for prompt, answer in (("One?", "First."), ("Two?", "Second.")):
        spoken.backend.say(answer)
        spoken.backend.end()
        await visitor.ask(prompt)
        await visitor.see_text(answer)
        await visitor.wait_for("done")
    (earlier,) = await visitor.at(".earlier").all()
    await expect(earlier).to_contain_text("One?")
    await expect(earlier).to_contain_text("First.")
    await visitor.at("#remove").click()
    await earlier.get_by_role("button").click()
    await expect(visitor.at("#prompt")).to_have_value("One?")
    await expect(visitor.at("#prompt")).to_be_focused()
    await expect(visitor.at("#preview")).to_be_visible()


async def test_an_answer_that_a_proxy_keeps_back_for_a_moment_is_fetched_again(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    visitor.may_fail = True
    statuses = [503, 429]

    async def refuse(route: Route) -> None:
        if route.request.method == "GET" and statuses:
            await route.fulfill(status=statuses.pop(0), body="later")
        else:
            await route.continue_()

    await visitor.page.route(re.compile(r"/requests/[^/]+$"), refuse)
    await visitor.choose(picture, spoken.key)
    spoken.backend.say("A red circle.")
    spoken.backend.end()
    await visitor.ask("What is this?")
    await visitor.wait_for("done")
    await visitor.see_text("A red circle.")
    assert not statuses


async def test_the_page_asks_behind_a_prefix_of_a_proxy_too(
    make_settings: MakeSettings, make_visitor: MakeVisitor, picture: Path
) -> None:
    """The service's own paths are taken relative to the page, whatever it takes itself for."""
    backend = SpokenBackend()
    settings = make_settings(http__public_url="http://elsewhere.test/idefics2")
    async with App(settings, backend) as app:
        visitor = await make_visitor(f"http://{app.http_address}/")
        await visitor.come()
        large = picture.with_name("large.bmp")
        large.write_bytes(encode(draw_red_circle((1500, 1200)), "BMP"))
        await visitor.choose(large, app.api_key or "")
        backend.end()
        await visitor.ask("What is this?")
        await visitor.wait_for("done")
