"""What is promised to hands, eyes and ears: every way to give an image, keyboard, screens, screen readers."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest
from pictures import red_circle
from playwright.async_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from page.conftest import MakeVisitor, Spoken
    from page.visitor import Visitor
    from playwright.async_api import FileChooser

MAKE_TRANSFER = """([encoded, text]) => {
  const transfer = new DataTransfer();
  if (text) transfer.setData("text/plain", text);
  if (encoded) {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
  }
  return transfer;
}"""
COPY_IMAGE = """async (encoded) => {
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const image = new Blob([bytes], { type: "image/png" });
  await navigator.clipboard.write([new ClipboardItem({ "image/png": image })]);
}"""
LONG = "Up to here and no further, said the sea. " * 100
PHONE = {"viewport": {"width": 320, "height": 568}, "is_mobile": True, "has_touch": True}
DESK = {"viewport": {"width": 1280, "height": 900}}
PATIENCE_SECONDS = 20
ADDRESS = "https://example.com/paintings/old%20man.jpg"


def encoded() -> str:
    """Write a red circle as text."""
    return base64.b64encode(red_circle()).decode()


async def answer(visitor: Visitor, spoken: Spoken, text: str, prompt: str = "What is this?") -> None:
    """Ask, and have it answered."""
    spoken.backend.say(text)
    spoken.backend.end()
    await visitor.ask(prompt)
    await visitor.wait_for("done")


@pytest.mark.parametrize("place", ["#zone", "body"])
async def test_a_file_can_be_dropped_anywhere(visitor: Visitor, spoken: Spoken, place: str) -> None:
    transfer: Any = await visitor.page.evaluate_handle(MAKE_TRANSFER, [encoded(), ""])
    await visitor.at(place).dispatch_event("dragover", {"dataTransfer": transfer})
    await expect(visitor.at("#zone")).to_contain_class("over")
    await visitor.at(place).dispatch_event("drop", {"dataTransfer": transfer})
    await expect(visitor.at("#zone")).not_to_contain_class("over")
    await expect(visitor.at("#picture-name")).to_contain_text("dropped.png")
    await expect(visitor.at("#preview")).to_be_visible()
    await visitor.at("#key").fill(spoken.key)
    await answer(visitor, spoken, "A circle.")
    assert spoken.backend.requests[0].images[0].data == red_circle()


async def test_a_link_can_be_dropped(visitor: Visitor) -> None:
    transfer: Any = await visitor.page.evaluate_handle(MAKE_TRANSFER, ["", ADDRESS])
    await visitor.at("#zone").dispatch_event("drop", {"dataTransfer": transfer})
    await expect(visitor.at("#address")).to_have_value(ADDRESS)
    await expect(visitor.at("#elsewhere-host")).to_have_text("example.com")


async def test_an_image_can_be_pasted_even_while_one_writes(
    make_visitor: MakeVisitor, spoken: Spoken
) -> None:
    visitor = await make_visitor(permissions=["clipboard-read", "clipboard-write"])
    await visitor.come()
    await visitor.page.evaluate(COPY_IMAGE, encoded())
    await visitor.at("#prompt").press("Control+v")
    await expect(visitor.at("#preview")).to_be_visible()
    await expect(visitor.at("#picture-name")).to_contain_text("200 × 150")
    await visitor.at("#key").fill(spoken.key)
    await answer(visitor, spoken, "A circle.")


async def test_a_link_is_pasted_as_an_image_but_where_one_writes_it_is_text(
    make_visitor: MakeVisitor,
) -> None:
    visitor = await make_visitor(permissions=["clipboard-read", "clipboard-write"])
    await visitor.come()
    await visitor.page.evaluate("(text) => navigator.clipboard.writeText(text)", ADDRESS)
    await visitor.at("#prompt").press("Control+v")
    await expect(visitor.at("#prompt")).to_have_value(ADDRESS)
    await expect(visitor.at("#address")).to_have_value("")
    await visitor.at("#go").focus()
    await visitor.page.keyboard.press("Control+v")
    await expect(visitor.at("#address")).to_have_value(ADDRESS)


async def test_the_last_image_given_counts(visitor: Visitor, spoken: Spoken, picture: Path) -> None:
    await visitor.choose(picture, spoken.key)
    await visitor.at("#address").fill(ADDRESS)
    await expect(visitor.at("#preview")).to_be_hidden()
    await visitor.choose(picture, spoken.key)
    await expect(visitor.at("#address")).to_have_value("")
    await expect(visitor.at("#preview")).to_be_visible()
    await visitor.at("#remove").click()
    await expect(visitor.at("#zone")).to_have_attribute("data-kind", "none")
    await expect(visitor.at("#image_url")).to_be_focused()


async def test_the_keyboard_is_enough(visitor: Visitor, spoken: Spoken, picture: Path) -> None:
    press, focused = visitor.page.keyboard.press, visitor.at(":focus")
    chosen: asyncio.Future[FileChooser] = asyncio.get_running_loop().create_future()
    visitor.page.on("filechooser", lambda chooser: chosen.set_result(chooser))  # noqa: PLW0108  # it writes into it
    await expect(focused).to_have_id("key")
    await visitor.page.keyboard.type(spoken.key)
    await press("Tab")
    await expect(focused).to_have_id("image_url")
    await press("Enter")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await (await chosen).set_files(picture)
    await expect(visitor.at("#preview")).to_be_visible()
    for name in ("remove", "address", "prompt"):
        await press("Tab")
        await expect(focused).to_have_id(name)
    await visitor.page.keyboard.type("Go on?")
    await press("Tab")
    await press("Enter")  # unfolds the parameters
    for name in ("temperature", "repetition_penalty", "top_p", "max_new_tokens", "seed", "go"):
        await press("Tab")
        await expect(focused).to_have_id(name)
    await press("Enter")
    spoken.backend.say("On")
    await visitor.see_text("On")
    await press("Tab")
    await expect(focused).to_have_id("cancel")
    await press("Enter")
    await visitor.wait_for("cancelled")
    await expect(focused).to_have_id("go")
    spoken.backend.say("Yes.")
    spoken.backend.end()
    await press("Enter")
    await visitor.wait_for("done")
    for name in ("copy-answer", "text", "copy-call"):
        await press("Tab")
        await expect(focused).to_have_id(name)
    await press("Tab")
    await press("ArrowRight")
    await expect(visitor.at("#code")).to_contain_text("fal.subscribe")


async def test_a_screen_reader_hears_where_it_stands_and_the_whole_answer_at_its_end(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    await visitor.ask("What is this?")
    await expect(visitor.at("[role=status]")).to_have_text("Writing.")
    spoken.backend.say("A", " circle.")
    await visitor.see_text("A circle.")
    await expect(visitor.at("[role=status]")).to_have_text("Writing.")  # not each piece
    spoken.backend.end()
    await visitor.wait_for("done")
    await expect(visitor.at("[role=status]")).to_have_text("The answer: A circle.")
    assert not await visitor.at("#text").get_attribute("aria-live")


@pytest.mark.usefixtures("axe")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", ["desk", "phone"])
async def test_nothing_is_a_barrier_and_nothing_is_wider_than_the_screen(
    make_visitor: MakeVisitor, spoken: Spoken, picture: Path, *, scheme: str, screen: str
) -> None:
    options = PHONE if screen == "phone" else DESK
    visitor = await make_visitor(color_scheme=scheme, reduced_motion="reduce", **options)
    visitor.may_fail = True

    async def look(name: str) -> None:
        await visitor.take_picture(f"{screen}-{scheme}-{name}")
        assert await visitor.find_barriers() == [], name
        assert not await visitor.is_wider_than_the_screen(), name

    await visitor.come()
    await look("1-empty")
    await visitor.at("#go").click()
    await look("2-complaints")
    await visitor.choose(picture, spoken.key)
    await visitor.at("summary").click()
    await visitor.ask("What is this?")
    spoken.backend.say("A red")
    await visitor.see_text("A red")
    await look("3-writing")
    spoken.backend.say(" circle.")
    spoken.backend.end()
    await visitor.wait_for("done")
    await look("4-done")
    await answer(visitor, spoken, LONG, "And then?")
    await look("5-long")
    await visitor.at("#address").fill(ADDRESS)
    await visitor.at("#key").fill("wrong.ffffffffffffffffffffffffffffffff")
    await visitor.ask("Who painted this?")
    await visitor.wait_for("failed")
    await look("6-failed")


@pytest.mark.parametrize("screen", [PHONE, DESK], ids=["phone", "desk"])
async def test_nothing_moves_by_itself(
    make_visitor: MakeVisitor, spoken: Spoken, picture: Path, screen: dict[str, Any]
) -> None:
    visitor = await make_visitor(**screen)
    await visitor.come()
    await visitor.choose(picture, spoken.key)
    await expect(visitor.at("#preview")).to_be_visible()
    await answer(visitor, spoken, LONG)
    assert await visitor.list_shifts() == []


async def test_a_long_answer_is_followed_to_its_end_within_its_frame(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    height = await visitor.page.evaluate("document.body.scrollHeight")
    await answer(visitor, spoken, LONG)
    end = "document.querySelector('#text').scrollTop + document.querySelector('#text').clientHeight"
    assert await visitor.page.evaluate(f"{end} >= document.querySelector('#text').scrollHeight - 1")
    assert await visitor.page.evaluate("document.body.scrollHeight") == height


async def test_an_answer_from_right_to_left_is_written_so(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    await answer(visitor, spoken, "עיגול אדום על רקע לבן.")
    await visitor.take_picture("desk-light-7-hebrew")
    assert await visitor.page.evaluate("getComputedStyle(document.querySelector('#text')).direction") == "rtl"


async def test_nothing_of_an_answer_is_taken_for_markup(
    visitor: Visitor, spoken: Spoken, picture: Path
) -> None:
    await visitor.choose(picture, spoken.key)
    markup = "<img src=x onerror=alert(1)><b>&amp;</b>"
    for _ in range(2):  # the second time it is also an earlier one
        await answer(visitor, spoken, markup, markup)
        await visitor.see_text(markup)
    await expect(visitor.at(".earlier p").last).to_have_text(markup)


async def test_who_wants_no_motion_sees_none(
    make_visitor: MakeVisitor, spoken: Spoken, picture: Path
) -> None:
    visitor = await make_visitor(reduced_motion="reduce")
    await visitor.come()
    await visitor.choose(picture, spoken.key)
    await visitor.ask("What is this?")
    spoken.backend.say("A")
    await visitor.see_text("A")
    assert await visitor.page.evaluate("document.getAnimations().length") == 0
    spoken.backend.end()
    await visitor.wait_for("done")


async def test_an_answer_and_a_call_can_be_copied(
    make_visitor: MakeVisitor, spoken: Spoken, picture: Path
) -> None:
    visitor = await make_visitor(permissions=["clipboard-read", "clipboard-write"])
    await visitor.come()
    await visitor.choose(picture, spoken.key)
    await answer(visitor, spoken, "A circle.")
    for button, there in (("#copy-answer", "#text"), ("#copy-call", "#code")):
        await visitor.at(button).click()
        await expect(visitor.at(button)).to_contain_text("Copied")
        copied = await visitor.page.evaluate("navigator.clipboard.readText()")
        assert copied == await visitor.at(there).text_content()
        assert spoken.key not in copied
