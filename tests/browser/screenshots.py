"""The README's pictures of the page: python -m tests.browser.screenshots."""

from pathlib import Path

from playwright.sync_api import expect

from infra.local import local_stack
from infra.page import serve_page
from tests.browser.opened import WATCHES_AMERICA, WATCHES_KOREA, opened_browser, opened_page

_HERE = Path(__file__).parent


def main() -> None:
    """Take a picture in each colour scheme, of a dashboard that has caught up beside one that is cut off."""
    for scheme in ("light", "dark"):
        with (
            local_stack() as stack,  # of its own: a new dashboard would get the alerts of the picture before
            serve_page(stack) as address,
            opened_browser() as browser,
            opened_page(browser, address, scheme) as opened,
        ):
            opened.wait_until("Live", WATCHES_KOREA, WATCHES_AMERICA)
            opened.send("Unusual sign-in from a new country")
            opened.wait_for_alert("Unusual sign-in", WATCHES_KOREA)
            opened.press("Cut network", WATCHES_KOREA)
            opened.wait_until("Offline", WATCHES_KOREA)
            opened.send("A new access key for root", "critical")
            opened.press("Restore network", WATCHES_KOREA)
            opened.wait_for_alert("A new access key for root", WATCHES_KOREA)
            opened.wait_until("Live", WATCHES_KOREA)
            opened.press("Cut network", WATCHES_AMERICA)
            opened.wait_until("Offline", WATCHES_AMERICA)
            status = opened.page.get_by_role("region", name="Who is connected").get_by_role("status")
            expect(status).to_contain_text("2 connected.")
            opened.page.get_by_role("textbox", name="Text").focus()
            opened.page.screenshot(path=_HERE / f"page-{scheme}.png", animations="disabled")


if __name__ == "__main__":
    main()
