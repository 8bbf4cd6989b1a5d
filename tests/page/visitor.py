"""Somebody who looks at the page, and notices what a person would not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from page.browser import AXE, ROOT
from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Locator, Page, Request

SCREENSHOTS = ROOT / ".cache/screenshots"

LISTEN = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const { hadRecentInput, value, sources } of list.getEntries()) {
    const moved = sources.map(({ node }) => node?.id || node?.className || node?.nodeName);
    if (!hadRecentInput) window.shifts.push([value, moved]);
  }
}).observe({ type: "layout-shift", buffered: true });
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
});
"""
"""Runs before the page's own scripts."""

RUN_AXE = """async () => {
  const { violations } = await axe.run(document);
  return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
}"""


class Visitor:
    """One tab."""

    def __init__(self, page: Page, url: str) -> None:
        """Look at `page`, which is to show `url`."""
        self.page = page
        self.url = url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        """What the browser's console says."""
        self.may_fail = False
        """Whether calls of the page are meant to fail, which the console tells."""
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.complaints.append(f"thrown: {error}"))
        page.on("request", self._note_request)

    async def come(self, fragment: str = "") -> None:
        """Open the page."""
        await self.page.goto(self.url + fragment)

    def at(self, selector: str) -> Locator:
        """Point at something."""
        return self.page.locator(selector)

    async def choose(self, file: Any, key: str) -> None:
        """Give key and image."""
        await self.at("#key").fill(key)
        await self.at("#image_url").set_input_files(file)

    async def ask(self, prompt: str) -> None:
        """Ask, by the key that asks."""
        await self.at("#prompt").fill(prompt)
        await self.at("#prompt").press("Enter")

    async def wait_for(self, state: str) -> None:
        """Wait until the answer is `running`, `done`, `failed` or `cancelled`."""
        await expect(self.at("#answer")).to_have_attribute("data-state", state)

    async def see_text(self, text: str) -> None:
        """Wait until the answer reads so."""
        await expect(self.at("#text")).to_have_text(text)

    async def see_complaint(self, field: str, words: str) -> None:
        """Wait until a field is said to be wrong, in its own place, and is gone to."""
        await expect(self.at(f"#{field}-hint")).to_contain_text(words)
        await expect(self.at(f"#{field}")).to_have_attribute("aria-invalid", "true")
        await expect(self.at(f"#{field}")).to_be_focused()

    async def take_picture(self, name: str) -> None:
        """Save what is seen."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    async def list_shifts(self) -> list[Any]:
        """List what moved by itself, and how far."""
        moved: list[Any] = await self.page.evaluate("window.shifts")
        return moved

    async def find_barriers(self) -> list[Any]:
        """List what axe finds inaccessible in what is shown now."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text())
        found: list[Any] = await self.page.evaluate(RUN_AXE)
        return found

    async def is_wider_than_the_screen(self) -> bool:
        """Tell whether one would have to scroll sideways."""
        wider: bool = await self.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        return wider

    def check(self) -> None:
        """Fail if the console complained, or anything was asked of another host."""
        assert not self.complaints
        assert {urlsplit(url).netloc for url in self.requests} <= {urlsplit(self.url).netloc}

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        if not (self.may_fail and message.text.startswith("Failed to load resource")):
            self.complaints.append(f"{message.type}: {message.text}")

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith(("blob:", "data:")):
            self.requests.append(request.url)
