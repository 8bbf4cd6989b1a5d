"""What is promised of the API key: it stays in the tab, and is in no URL that is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from page.conftest import MakeVisitor, Spoken
    from page.visitor import Visitor


async def test_a_key_behind_the_hash_is_taken_and_leaves_the_address_bar(
    make_visitor: MakeVisitor, spoken: Spoken, picture: Path
) -> None:
    visitor = await make_visitor()
    await visitor.come(f"#key={spoken.key}")
    assert visitor.page.url == spoken.url
    await expect(visitor.at("#key")).to_have_value(spoken.key)
    await expect(visitor.at("#key")).to_have_attribute("type", "password")
    await expect(visitor.at("#prompt")).to_be_focused()
    await visitor.at("#image_url").set_input_files(picture)
    spoken.backend.end()
    await visitor.ask("What is this?")
    await visitor.wait_for("done")
    assert not [url for url in visitor.requests if spoken.key.partition(".")[2] in url]


async def test_a_key_outlives_a_reload_and_not_the_tab(visitor: Visitor, spoken: Spoken) -> None:
    await visitor.at("#key").fill(spoken.key)
    await visitor.page.reload()
    await expect(visitor.at("#key")).to_have_value(spoken.key)
    other = await visitor.page.context.new_page()
    await other.goto(spoken.url)
    await expect(other.locator("#key")).to_have_value("")
    kept = await other.evaluate("[localStorage.length, document.cookie]")
    assert kept == [0, ""]


async def test_no_call_that_is_shown_holds_the_key(visitor: Visitor, spoken: Spoken) -> None:
    await visitor.at("#key").fill(spoken.key)
    for language in await visitor.at("[name=language]").all():
        await language.check(force=True)
        code = await visitor.at("#code").text_content()
        assert code
        assert spoken.key not in code
