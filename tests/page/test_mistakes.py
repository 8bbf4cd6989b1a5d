"""What a person is told when something is wrong: in words, by the field, and the page goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from idefics2_service.app import App
from idefics2_service.keys.changes import create, revoke
from idefics2_service.keys.file import KeyFile
from page.spoken import SpokenBackend
from playwright.async_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from harness import MakeSettings
    from page.conftest import MakeVisitor, Spoken
    from page.visitor import Visitor


async def test_nothing_is_sent_before_key_image_and_question_are_there(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.at("#go").click()
    await visitor.see_complaint("key", "Enter the API key first.")
    await expect(visitor.at("#image_url-hint")).to_have_text("Choose an image, or give its address.")
    await expect(visitor.at("#prompt-hint")).to_have_text("Write a question.")
    await visitor.choose(picture, spoken.key)
    await expect(visitor.at("#key-hint")).to_have_text("Stays in this tab, until you close it.")
    await expect(visitor.at("#image_url")).not_to_have_attribute("aria-invalid", "true")
    await visitor.at("#go").click()
    await visitor.see_complaint("prompt", "Write a question.")
    assert not [url for url in visitor.requests if "/queue/" in url]


async def test_a_wrong_key_is_told_by_its_field_and_the_right_one_then_works(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    visitor.may_fail = True
    await visitor.choose(picture, "test.ffffffffffffffffffffffffffffffff")
    await visitor.ask("What is this?")
    await visitor.see_complaint("key", "The service does not know this key.")
    await visitor.wait_for("failed")
    spoken.backend.end()
    await visitor.at("#key").fill(spoken.key)
    await visitor.at("#key").press("Enter")
    await visitor.wait_for("done")


@pytest.mark.parametrize("end", ["expired", "revoked"])
async def test_a_key_that_is_over_is_told_from_one_that_is_not_known(
    make_settings: MakeSettings, make_visitor: MakeVisitor, picture: Path, *, end: str
) -> None:
    path, now = picture.with_name("keys.json"), datetime.now(UTC)
    file = KeyFile(path)
    key = create(file, "anna", now, expires_at=now if end == "expired" else None).text
    if end == "revoked":
        revoke(file, "anna", now)
    async with App(make_settings(api__key=None, api__keys_file=path), SpokenBackend()) as app:
        visitor = await make_visitor(f"http://{app.http_address}/")
        visitor.may_fail = True
        await visitor.come()
        await visitor.choose(picture, key)
        await visitor.ask("What is this?")
        words = {"expired": "This key has expired.", "revoked": "This key was revoked."}
        await visitor.see_complaint("key", words[end])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temperature", "11", "must be 0, or 0.001 to 10"),
        ("temperature", "0.0005", "temperature must be 0 for the most likely token, or 0.001 to 10"),
        ("top_p", "1.5", "must be above 0, up to 1"),
        ("top_p", "0", "top_p must be above 0, up to 1"),
        ("repetition_penalty", "0", "must be 0.01 to 10"),
        ("max_new_tokens", "4097", "must be 1 to 4096"),
        ("max_new_tokens", "1.5", "must be 1 to 4096"),
        ("seed", "-1", "must be 0 to 2⁶⁴ − 1"),
        ("seed", "18446744073709551616", "seed must be 0 to 18446744073709551615"),
    ],
)
async def test_a_parameter_out_of_bounds_is_told_by_its_field(
    visitor: Visitor, spoken: Spoken, picture: Path, *, name: str, value: str, words: str
) -> None:
    visitor.may_fail = True
    hint = await visitor.at(f"#{name}-hint").text_content()
    await visitor.choose(picture, spoken.key)
    await visitor.at("summary").click()
    await visitor.at(f"#{name}").fill(value)
    await visitor.at("summary").click()
    await visitor.ask("What is this?")
    await visitor.see_complaint(name, words)  # unfolded, or it could not have the focus
    await visitor.at(f"#{name}").fill("1")
    await expect(visitor.at(f"#{name}-hint")).to_have_text(hint or "")


async def test_all_that_the_service_finds_wrong_is_told_at_once(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    visitor.may_fail = True
    await visitor.choose(picture, spoken.key)
    await visitor.at("summary").click()
    await visitor.at("#temperature").fill("0.0005")
    await visitor.at("#top_p").fill("0")
    await visitor.ask("What is <image>?")
    await visitor.see_complaint("prompt", "<image>")
    await expect(visitor.at("#temperature-hint")).to_contain_text("must be 0 for")
    await expect(visitor.at("#top_p-hint")).to_contain_text("must be above 0")


async def test_an_address_that_cannot_be_fetched_is_told_by_the_image(
    visitor: Visitor, spoken: Spoken
) -> None:
    visitor.may_fail = True
    await visitor.at("#key").fill(spoken.key)
    await visitor.at("#address").fill("http://127.0.0.1/cat.png")
    await expect(visitor.at("#elsewhere-host")).to_have_text("127.0.0.1")
    await visitor.ask("What is this?")
    await visitor.see_complaint("image_url", "not public")
    await visitor.at("#address").fill("data:image/png;base64,AAAA")
    await visitor.ask("What is this?")
    await visitor.see_complaint("image_url", "not a picture")


async def test_a_file_that_is_no_image_is_refused_before_it_is_sent(
    visitor: Visitor, spoken: Spoken, tmp_path: Path
) -> None:
    text, empty, large = tmp_path / "a.txt", tmp_path / "b.png", tmp_path / "c.png"
    text.write_text("I am no picture.")
    empty.touch()
    large.write_bytes(b"x" * 20_000_001)
    for path, words in ((text, "a.txt is text/plain"), (empty, "is empty"), (large, "at most 20.0 MB")):
        await visitor.choose(path, spoken.key)
        await visitor.see_complaint("image_url", words)
    assert not [url for url in visitor.requests if "/queue/" in url]


async def test_a_picture_that_is_damaged_is_told_by_the_image(visitor: Visitor, spoken: Spoken) -> None:
    visitor.may_fail = True
    file = {"name": "a.png", "mimeType": "image/png", "buffer": b"I only say that I am one."}
    await visitor.choose(file, spoken.key)
    await expect(visitor.at("#elsewhere-host")).to_contain_text("No preview")
    await visitor.ask("What is this?")
    await visitor.see_complaint("image_url", "is not a picture of an accepted format")


async def test_a_full_queue_is_told_and_the_same_can_be_asked_again(
    make_settings: MakeSettings, make_visitor: MakeVisitor, picture: Path
) -> None:
    backend = SpokenBackend()
    await backend.set_healthy(healthy=False)  # so that what is submitted waits
    async with App(make_settings(store__max_queued=1), backend) as app:
        first, second = [await make_visitor(f"http://{app.http_address}/") for _ in range(2)]
        second.may_fail = True
        for visitor in (first, second):
            await visitor.come()
            await visitor.choose(picture, app.api_key or "")
            await visitor.ask("One?")
            await expect(first.at("#state")).to_contain_text("In the queue")
        await second.wait_for("failed")
        await expect(second.at("#state")).to_contain_text("has no room for this now")
        await expect(second.at("#alarm")).to_contain_text("has no room for this now")
        await first.at("#cancel").click()
        await first.wait_for("cancelled")
        await second.at("#go").click()
        await expect(second.at("#state")).to_contain_text("In the queue")


async def test_a_service_that_is_gone_is_told(visitor: Visitor, spoken: Spoken, picture: Path) -> None:
    visitor.may_fail = True
    await visitor.choose(picture, spoken.key)
    await spoken.app.__aexit__(None, None, None)
    await visitor.ask("What is this?")
    await visitor.wait_for("failed")
    await expect(visitor.at("#state")).to_contain_text("The service cannot be reached.")
