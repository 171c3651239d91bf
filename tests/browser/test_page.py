"""The page of `make run` in a browser, with the local stack behind it."""

from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from infra.local import local_stack
from infra.page import serve_page
from infra.process import find_uv
from infra.stack import LocalStack
from tests.browser.opened import WATCHES_AMERICA, WATCHES_KOREA, Opened, opened_browser, opened_page
from tests.deadline import eventually
from tests.lanes import NO_BROWSER, find_browser, leave_out

CONNECT = """async (body, url) => {
  const { CuttableWebSocket } = await import("./network.js");
  const seen = [];
  await new Promise((resolve) => {
    const socket = new CuttableWebSocket(url);
    socket.onopen = () => resolve(seen.push("open"));
    socket.onerror = () => seen.push("error");
    socket.onclose = ({ code }) => resolve(seen.push(`close ${code}`));
  });
  return seen;
}"""


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    if find_browser() is None:
        leave_out(NO_BROWSER)
    if find_uv() is None:
        leave_out("no uv on this machine")
    with local_stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def address(stack: LocalStack) -> Iterator[str]:
    with serve_page(stack) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, address: str, stack: LocalStack) -> Iterator[Opened]:
    """The page with its first two dashboards, live; at the end nobody is connected any more."""
    with opened_page(browser, address) as opened:
        opened.wait_until("Live", WATCHES_KOREA, WATCHES_AMERICA)
        yield opened
    eventually(lambda: stack.connections() == [])


def test_an_alert_reaches_the_dashboard_that_it_concerns_and_no_other(opened: Opened) -> None:
    opened.send("A new key for root")
    opened.wait_for_alert("A new key for root", WATCHES_KOREA)

    assert opened.alerts(WATCHES_KOREA) == ["A new key for root"]
    assert opened.alerts(WATCHES_AMERICA) == []


def test_a_dashboard_whose_network_was_cut_catches_up(opened: Opened, stack: LocalStack) -> None:
    opened.send("Before the cut")
    opened.wait_for_alert("Before the cut", WATCHES_KOREA)
    opened.press("Cut network", WATCHES_KOREA)
    opened.wait_until("Offline", WATCHES_KOREA)
    opened.send("During the cut")
    connected = [it.client_id for it in stack.connections()]
    during = opened.alerts(WATCHES_KOREA)

    opened.press("Restore network", WATCHES_KOREA)
    opened.wait_for_alert("During the cut", WATCHES_KOREA)
    opened.wait_until("Live", WATCHES_KOREA)
    eventually(lambda: len(stack.connections()) == 2)  # the one that was cut is gone
    opened.send("After the cut")
    opened.wait_for_alert("After the cut", WATCHES_KOREA)

    assert sorted(connected) == [WATCHES_KOREA, WATCHES_AMERICA]  # half-open: the gateway has seen nothing
    assert during == ["Before the cut"]
    assert opened.alerts(WATCHES_KOREA) == ["After the cut", "During the cut", "Before the cut"]
    expect(opened.alert("During the cut", WATCHES_KOREA)).to_contain_text("caught up")
    expect(opened.alert("After the cut", WATCHES_KOREA)).not_to_contain_text("caught up")
    expect(opened.dashboard(WATCHES_KOREA).locator("#gap")).to_be_empty()


def test_after_the_cut_the_old_connection_is_gone(opened: Opened, stack: LocalStack) -> None:
    [before] = [it.id for it in stack.connections() if it.client_id == WATCHES_KOREA]
    opened.press("Cut network", WATCHES_KOREA)
    opened.press("Restore network", WATCHES_KOREA)
    opened.wait_until("Live", WATCHES_KOREA)

    def now() -> list[str]:
        return [it.id for it in stack.connections() if it.client_id == WATCHES_KOREA]

    eventually(lambda: len(now()) == 1 and now() != [before])


def test_while_the_network_is_cut_no_new_connection_opens(opened: Opened, stack: LocalStack) -> None:
    opened.press("Cut network", WATCHES_KOREA)
    opened.wait_until("Offline", WATCHES_KOREA)

    seen = opened.dashboard(WATCHES_KOREA).locator("body").evaluate(CONNECT, stack.websocket_url)

    assert seen == ["error", "close 1006"]
    assert len(stack.connections()) == 2


def test_who_is_connected_is_shown_as_it_changes(opened: Opened) -> None:
    connected = opened.page.get_by_role("region", name="Who is connected")
    form = opened.page.get_by_role("region", name="Open a dashboard")
    expect(connected.get_by_role("status")).to_contain_text("2 connected.")  # the list may be behind

    form.get_by_label("Name").fill("wall-eu")
    form.get_by_label("Account").fill("123456789012")
    form.get_by_role("button", name="Open dashboard").click()
    expect(connected.get_by_role("status")).to_have_text("3 connected. wall-eu connected.")
    row = connected.get_by_role("row", name="wall-eu")
    expect(row).to_contain_text("123456789012")
    expect(row).to_contain_text("127.0.0.1")

    opened.page.get_by_role("button", name="Close wall-eu").click()
    expect(connected.get_by_role("status")).to_have_text("2 connected. wall-eu disconnected.")
    expect(row).to_have_count(0)
    expect(opened.page.get_by_role("heading", name="Dashboards")).to_be_focused()


def test_all_of_it_works_from_the_keyboard(opened: Opened) -> None:
    opened.page.get_by_role("region", name="Connections").focus()
    for _ in ("account", "region", "text"):
        opened.page.keyboard.press("Tab")
    opened.page.keyboard.type("From the keyboard")
    opened.page.keyboard.press("Enter")
    opened.wait_for_alert("From the keyboard", WATCHES_KOREA)

    in_order = [*["INPUT"] * 3, "SELECT", "BUTTON", *["INPUT"] * 3, "BUTTON", "BUTTON", "IFRAME"]
    opened.page.get_by_role("region", name="Connections").focus()
    visited = []
    for _ in in_order:
        opened.page.keyboard.press("Tab")
        visited.append(opened.page.evaluate("document.activeElement.tagName"))
    opened.page.keyboard.press("Enter")  # the first control of the first dashboard

    assert visited == in_order
    opened.wait_until("Offline", WATCHES_KOREA)


@pytest.mark.parametrize(
    ("region", "field", "button", "sentence"),
    [
        (
            "Send an alert",
            "Account",
            "Send alert",
            "The audience's account must be empty or an AWS account id of 12 digits.",
        ),
        (
            "Open a dashboard",
            "Region",
            "Open dashboard",
            "region must be empty or the name of an AWS region.",
        ),
    ],
)
def test_what_is_wrong_in_a_form_is_said(
    region: str, field: str, button: str, sentence: str, opened: Opened
) -> None:
    form = opened.page.get_by_role("region", name=region)
    form.get_by_label(field).fill("nowhere")
    form.get_by_role("button", name=button).click()

    expect(form.get_by_role("status")).to_have_text(sentence)
    assert all(str(HTTPStatus.BAD_REQUEST.value) in complaint for complaint in opened.complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_is_hard_to_see_or_to_read_aloud(
    scheme: str, browser: Browser, address: str, stack: LocalStack
) -> None:
    with opened_page(browser, address, scheme) as opened:
        opened.wait_until("Live", WATCHES_KOREA, WATCHES_AMERICA)
        opened.send(f"Seen in {scheme} colours", "medium")
        opened.wait_for_alert(f"Seen in {scheme} colours", WATCHES_KOREA)
        opened.press("Cut network", WATCHES_KOREA)
        opened.wait_until("Offline", WATCHES_KOREA)
        reports = [Axe().run(frame).response for frame in opened.page.frames]

    eventually(lambda: stack.connections() == [])
    assert len(reports) == 3
    assert all("color-contrast" in {rule["id"] for rule in report["passes"]} for report in reports)
    assert [(it["id"], it["nodes"]) for report in reports for it in report["violations"]] == []


def test_the_browser_complains_of_nothing_and_nothing_is_loaded_from_elsewhere(
    opened: Opened, address: str
) -> None:
    opened.send("Unusual sign-in")
    opened.press("Cut network", WATCHES_KOREA)
    opened.wait_until("Offline", WATCHES_KOREA)
    opened.press("Restore network", WATCHES_KOREA)
    opened.wait_until("Live", WATCHES_KOREA)

    assert opened.complaints == []
    assert opened.hosts == {urlsplit(address).netloc}
