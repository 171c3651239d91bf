"""The page in the user's own Chrome or Chromium, and what it complains of."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect, sync_playwright

from tests.lanes import NO_BROWSER, find_browser, leave_out

PATIENCE = 90_000  # ms; on a busy machine a function's first start takes long
SIZE: Any = {"width": 1280, "height": 790}
WATCHES_KOREA = "wall-kr"
WATCHES_AMERICA = "wall-us"


@dataclass
class Opened:
    """The page while it is open. ``complaints`` are all errors that the browser's console has.

    ``sent`` are the texts of its alerts, which differ from test to test: a new
    dashboard gets those of the last seconds, too.
    """

    page: Page
    sent: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def dashboard(self, name: str) -> FrameLocator:
        """Return the dashboard of that name."""
        return self.page.frame_locator(f"iframe[title='Dashboard {name}']")

    def wait_until(self, state: str, *names: str) -> None:
        """Wait until those dashboards show *state*."""
        for name in names:
            expect(self.dashboard(name).locator("#state")).to_have_text(state)

    def alerts(self, name: str) -> list[str]:
        """Return the texts of those alerts that a dashboard shows, from the top."""
        shown = self.dashboard(name).locator("#alerts li p:first-child").all_text_contents()
        return [text for text in shown if text in self.sent]

    def alert(self, text: str, name: str) -> Locator:
        """Return that alert of a dashboard."""
        return self.dashboard(name).get_by_role("listitem").filter(has_text=text)

    def wait_for_alert(self, text: str, name: str) -> None:
        """Wait until a dashboard shows that alert."""
        expect(self.alert(text, name)).to_be_visible()

    def send(self, text: str, severity: str = "high") -> None:
        """Send an alert of the account and region that the form has, and wait for the report."""
        form = self.page.get_by_role("region", name="Send an alert")
        form.get_by_label("Text").fill(text)
        form.get_by_label("Severity").select_option(severity)
        form.get_by_role("button", name="Send alert").click()
        self.sent.append(text)
        expect(form.get_by_role("status")).to_have_text("Sent to 1 of 1 connections.")

    def press(self, button: str, name: str) -> None:
        """Press a button of a dashboard."""
        self.dashboard(name).get_by_role("button", name=button).click()


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """Run the user's browser during a block."""
    executable = find_browser()
    if executable is None:
        leave_out(NO_BROWSER)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, timeout=PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened_page(browser: Browser, address: str, scheme: Any = "light") -> Iterator[Opened]:
    """Open the page at *address* during a block, in the colours of a *scheme*."""
    page = browser.new_page(viewport=SIZE, color_scheme=scheme, locale="en-GB")
    page.set_default_timeout(PATIENCE)
    opened = Opened(page)
    page.on(
        "console", lambda it: opened.complaints.append(it.text) if it.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("request", lambda request: opened.hosts.add(urlsplit(request.url).netloc))
    try:
        page.goto(address)
        yield opened
    finally:
        page.close()
