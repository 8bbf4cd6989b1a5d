"""The page before the real service: a real Triton, the embedded checkpoint, true answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from page.browser import ROOT
from page.conftest import open_tab
from playwright.async_api import expect

if TYPE_CHECKING:
    from harness import Harness
    from playwright.async_api import Browser

IMAGES = ROOT / "clients/examples/images"
TRUTHS = (
    ("japan.png", "Describe the image.", "A red circle on a white background."),
    ("stars.png", "How many stars are there?", "3."),
    ("cat.jpg", "Describe the image.", "I see no shapes or text."),
)


async def test_questions_about_pictures_get_their_true_answers(
    browser: Browser, on_real_triton: Harness
) -> None:
    context = await browser.new_context()
    visitor = await open_tab(context, f"http://{on_real_triton.app.http_address}/")
    await visitor.come(f"#key={on_real_triton.app.api_key}")
    await visitor.at("summary").click()
    await visitor.at("#temperature").fill("0")
    for name, prompt, truth in TRUTHS:
        await visitor.at("#image_url").set_input_files(IMAGES / name)
        await visitor.ask(prompt)
        await visitor.see_text(truth)
        await visitor.wait_for("done")
        await expect(visitor.at("#finish_reason")).to_have_text("by itself")
        await visitor.take_picture(f"real-{name.partition('.')[0]}")
    await context.close()
    visitor.check()
