"""The explorer as people see it: headless Chromium over a real ``varve ui``, one session for all tests of a process.

These tests fail where Chromium or its driver is missing; ``-m 'not browser'`` leaves them out. With VARVE_UI_SHOTS=FOLDER they
keep a screenshot of each page, to be looked at.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from explorer import HTML, Placed, Shipped, damage
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import varve

pytestmark = pytest.mark.browser

WAIT_S = 30.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SCRIPT_ID = "<b>bold</b>"
PAGES = {
    "overview": "#/",
    "names": "#/streams",
    "ids": "#/streams?name=orders",
    "stream": "#/stream?name=orders&id=int:1",
    "log": "#/log",
    "filtered": "#/log?type=shop.PaymentReceived&order=oldest",
    "event": "#/event/1",
    "html": "#/event/{html}",
    "live": "#/live",
    "consumers": "#/consumers",
    "search": "#/search?q=1",
    "hints": "#/search",
    "nothing": "#/search?q=nosuchthing",
    "damage": "#/log?start={damage}&order=oldest",
}
WIDTHS = {"light": 1280, "dark": 1280, "phone": 390}

LOOKS = Path(__file__).with_name("looks.js").read_text(encoding="utf-8")
"""Functions that judge a page."""


class Site:
    """A store that is served, and the browser that looks at it."""

    def __init__(self, path: Path, url: str, server: subprocess.Popen[bytes], chrome: webdriver.Chrome) -> None:
        self.path = path
        self.url = url
        self.server = server
        self.chrome = chrome
        self.places: dict[str, int] = {}

    def open(self, address: str) -> None:
        """A page, once it is there."""
        self.chrome.execute_script(
            "window.old = document.querySelector('main').firstElementChild;"
            "if (location.hash === arguments[0]) dispatchEvent(new HashChangeEvent('hashchange'));"
            "else location.hash = arguments[0];",
            address,
        )
        is_new = "const made = document.querySelector('main').firstElementChild; return made !== window.old"
        self.until(lambda: self.script(f"{is_new} && !made.matches('.skeleton') && !!made.querySelector('h1')"))

    def script(self, text: str, *arguments: Any) -> Any:
        """Run JavaScript."""
        return self.chrome.execute_script(text, *arguments)

    def one(self, selector: str) -> Any:
        """An element."""
        return self.chrome.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[Any]:
        """Elements."""
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        """What stands there."""
        found: str = self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return found

    def press(self, *keys: str) -> None:
        """Type, wherever the focus is."""
        ActionChains(self.chrome).send_keys(*keys).perform()

    def focused(self, what: str = "id") -> str:
        """What has the focus."""
        found: str = self.script(f"return document.activeElement.{what} ?? ''")
        return found

    def until(self, is_so: Callable[[], Any], what: str = "it never came about") -> Any:
        """Wait for something."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            found = is_so()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{what}: {self.text()[:500]!r}")

    def look(self, mode: str) -> None:
        """Light, dark, or as wide as a phone."""
        self.chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": WIDTHS[mode], "height": 844, "deviceScaleFactor": 1, "mobile": mode == "phone"},
        )
        scheme = "dark" if mode == "dark" else "light"
        self.chrome.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )

    def console(self) -> list[str]:
        """What the browser complained of since it was last asked."""
        return [entry["message"] for entry in self.chrome.get_log("browser")]  # type: ignore[no-untyped-call]


def found(names: tuple[str, ...]) -> str:
    """A program. Fails where there is none: these tests are not left out by themselves."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.fail(
        f"no {names[0]} on this machine: apt-get install chromium chromium-driver (make test does so where it may), or leave "
        "these tests out with -m 'not browser'",
        pytrace=False,
    )


@pytest.fixture(scope="module")
def chrome() -> Iterator[webdriver.Chrome]:
    """The browser."""
    options = Options()
    options.binary_location = found(BROWSERS)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found(("chromedriver",))))
    yield driver
    driver.quit()


def served(path: Path, port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
    """A server, and its address."""
    command = [sys.executable, "-m", "varve.cli", "ui", str(path), "--no-browser", "--json", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert server.stdout is not None
    assert select.select([server.stdout], [], [], WAIT_S)[0], "varve ui does not start"
    line = server.stdout.readline()
    assert line, server.stderr.read() if server.stderr else ""
    return server, json.loads(line)["url"]


def ended(server: subprocess.Popen[bytes]) -> bytes:
    """Ctrl-C; what it wrote to standard error."""
    server.send_signal(signal.SIGINT)
    _, err = server.communicate(timeout=WAIT_S)
    return err


@pytest.fixture(scope="module")
def site(chrome: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A store with everything in it, served."""
    path = tmp_path_factory.mktemp("ui") / "shop"
    varve.ops.make_demo(path)
    with varve.open(path) as db:
        big = db.stream("big", Placed)
        big.append(1, Placed(1, "z" * 40_000))
        rotten = big.append(1, Placed(1, "DAMAGE-ME" + "z" * 40_000)).global_sequence
        big.append(1, Placed(3, "z" * 40_000))
        stream = db.stream("orders", Placed | Shipped)
        html = stream.append(SCRIPT_ID, Placed(2**64 - 1, HTML), metadata={HTML: HTML}).global_sequence
        stream.append_batch(1, [Shipped(n) for n in range(70)])
        db.consumer("billing", start=300, interval_s=0).close()
    damage(path, b"DAMAGE-ME")
    server, url = served(path)
    site = Site(path, url, server, chrome)
    site.places = {"html": html, "damage": rotten - 1}
    chrome.get(url)
    site.until(lambda: site.all("main h1"))
    yield site
    assert ended(site.server) == b""


@pytest.fixture(autouse=True)
def _begin(site: Site) -> Iterator[None]:
    """Each test begins with the overview, and ends without complaints of the browser that it did not look at."""
    site.look("light")
    site.open("#/")
    yield
    assert site.console() == []


def append(site: Site, *events: Placed | Shipped) -> int:
    """Another process than the server appends; the first sequence."""
    with varve.open(site.path) as db:
        return db.stream("orders", Placed | Shipped).append_batch(1, events)[0].global_sequence


@pytest.mark.parametrize("mode", WIDTHS)
def test_pages_look_well(site: Site, mode: str) -> None:
    """Every page, light, dark and on a phone: nothing sticks out, all text can be read, nothing moves once it is there."""
    site.look(mode)
    site.script(
        "window.shifts = []; new PerformanceObserver((list) => shifts.push(...list.getEntries().map((one) => one.value)))"
        ".observe({type: 'layout-shift'})"
    )
    shots = os.environ.get("VARVE_UI_SHOTS")
    for name, address in PAGES.items():
        site.open(address.format(**site.places))
        site.until(lambda: not site.all("[aria-busy]"))
        assert site.script("return document.documentElement.scrollWidth <= innerWidth"), name
        assert site.script(LOOKS + "return sticksOut()") == [], name
        assert site.script(LOOKS + "return pale()") == [], name
        assert bool(site.all(".state.bad")) == (name in {"overview", "damage"}), name
        assert site.script("return document.title").endswith("Varve")
        assert len(site.all("#nav [aria-current]")) == (name not in {"search", "hints", "nothing"})
        if shots:
            site.chrome.save_screenshot(str(Path(shots, f"{name}-{mode}.png")))
    assert sum(site.script("return shifts")) < 0.05


def test_html_stays_text(site: Site) -> None:
    """An event whose text is HTML, as text, id, metadata: nothing of it becomes an element, nothing of it runs."""
    html = site.places["html"]
    for address in (
        f"#/log?start={html + 1}",
        f"#/event/{html}",
        f"#/stream?name=orders&id=str:{SCRIPT_ID}",
        f"#/search?q={SCRIPT_ID}",
    ):
        site.open(address)
        assert "<b>bold</b>" in site.text()
        if "search" not in address:
            assert "<script>" in site.text()
            assert "18446744073709551615" in site.text()
        assert site.all("main img, main script, main b, main i") == []
        assert "owned" not in site.script("return document.title")


def test_scripts_of_others_do_not_run(site: Site) -> None:
    """The policy holds even if text became HTML by a mistake of ours."""
    tried = "try { document.body.innerHTML = '<b>x</b>'; return 'made' } catch (error) { return error.name }"
    assert site.script(tried) == "TypeError"
    assert any("TrustedHTML" in one for one in site.console())


def test_the_keyboard_is_enough(site: Site) -> None:
    """Pages, search, rows, events, the list of keys; the focus can be seen."""
    for key, heading in zip("12345", ("Overview", "Streams", "Log", "Live", "Consumers"), strict=True):
        site.press(key)
        site.until(lambda heading=heading: site.text("main h1") == heading)
    assert site.focused("tagName") == "H1"  # a screen reader says where one is
    site.press("3")
    site.until(lambda: site.text("main h1") == "Log")
    site.until(lambda: len(site.all(".events tbody tr")) > 3)
    site.press("j", "j", "k", "j")
    second = site.all(".events tbody tr")[1].get_attribute("data-sequence")
    assert site.focused("textContent") == f"#{second}"
    assert site.script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    site.press(Keys.ENTER)
    site.until(lambda: site.text("main h1").startswith(f"#{second} "))
    site.press("k")
    site.until(lambda: site.text("main h1").startswith(f"#{int(second) - 1} "))
    site.press("j")
    site.until(lambda: site.text("main h1").startswith(f"#{second} "))
    site.press("?")
    assert site.one("dialog").get_attribute("open") is not None
    site.press("1")  # nothing happens behind it
    assert site.text("main h1").startswith(f"#{second} ")
    site.press(Keys.ESCAPE)
    assert site.one("dialog").get_attribute("open") is None
    site.press("/", "orders/42", Keys.ENTER)
    site.until(lambda: site.text("main h1") == "Search" and site.all(".go-in a"))
    site.press(Keys.ESCAPE, "j")
    assert site.focused("textContent") == "orders/42"
    site.press(Keys.ENTER)
    site.until(lambda: site.text("main h1") == "orders/42")


def test_the_focus_goes_in_order(site: Site) -> None:
    """By Tab from the top: the way to the content, the menu, the search, the tools, the page. Each stop can be seen."""
    site.script("document.activeElement.blur(); document.body.tabIndex = -1; document.body.focus()")
    site.script("document.body.removeAttribute('tabindex')")
    stops = []
    for _ in range(12):
        site.press(Keys.TAB)
        stops.append(site.focused("textContent").strip() or site.focused("name") or site.focused("tagName"))
        assert site.script("return getComputedStyle(document.activeElement).outlineStyle") != "none", stops
    assert stops[0] == "Skip to the content"
    assert stops[2:9] == ["Overview", "Streams", "Log", "Live", "Consumers", "q", "☾"]
    assert stops[9:11] == ["?", "Refresh"]


def test_live_events_of_another_process(site: Site) -> None:
    """They appear by themselves, the newest on top, as text; paused, they wait."""
    site.open("#/live")
    site.until(lambda: site.text(".status") == "live")
    first = append(site, Placed(5, HTML))
    site.until(lambda: site.text(".events tbody").startswith(f"#{first}"))
    assert "<script>" in site.text(".events")
    assert site.all("main img, main script") == []
    site.press("p")
    append(site, Shipped(6), Shipped(7))
    site.until(lambda: "paused, 2 wait" in site.text(".status"))
    assert len(site.all(".events tbody tr")) == 1
    site.press("p")
    site.until(lambda: len(site.all(".events tbody tr")) == 3)
    assert site.text(".events tbody").startswith(f"#{first + 2}")
    site.open("#/live?type=shop.Shipped")
    site.until(lambda: site.text(".status") == "live")
    append(site, Placed(1, ""), Shipped(8))
    site.until(lambda: len(site.all(".events tbody tr")) == 1)
    assert "shop.Shipped" in site.text(".events")


def test_pages_of_lists(site: Site) -> None:
    """On to the next with the key, back with the browser."""
    site.open("#/streams?name=orders")
    assert len(site.all(".streams tbody tr")) == 50
    site.press("n")
    site.until(lambda: site.text(".streams tbody").startswith("51"))
    site.chrome.back()
    site.until(lambda: site.text(".streams tbody").startswith("1\t"))
    site.open("#/log?type=shop.Shipped")
    assert {row.text for row in site.all(".events td.type")} == {"shop.Shipped"}
    site.open("#/log?start=nonsense")
    assert "is no global sequence" in site.text("form.filters [role=alert]")
    site.console()  # the browser notes every answer of 400


def test_a_chart_can_be_walked(site: Site) -> None:
    """Bar by bar with the arrow keys; Enter leads into the log at that time."""
    site.script("document.querySelector('.over-time').focus()")
    site.press(Keys.HOME, Keys.ARROW_RIGHT)
    assert "event" in site.text(".readout")
    assert site.text("#said") == site.text(".readout")
    site.press(Keys.ENTER)
    site.until(lambda: site.text("main h1") == "Log")
    assert "order=oldest" in site.script("return location.hash")


def test_colours_are_switched_and_remembered(site: Site) -> None:
    """By the button or the key, beside what the system says; before anything is painted the next time."""

    def ground() -> str:
        return str(site.script("return getComputedStyle(document.body).backgroundColor"))

    light = ground()
    site.press("t")
    dark = ground()
    assert dark != light
    site.chrome.refresh()
    site.until(lambda: site.all("main h1"))
    assert ground() == dark
    site.one("#theme").click()
    assert ground() == light
    site.look("dark")
    assert ground() == dark  # it follows the system again


def test_mistakes_and_damage_have_a_page(site: Site) -> None:
    """What is not there, what is damaged: told in words, with a way on."""
    site.open("#/nowhere")
    assert "No such page" in site.text()
    site.open("#/event/999999")
    assert "the log ends at" in site.text(".state.bad")
    site.open("#/stream?name=orders&id=int:999999")
    assert "no stream" in site.text(".state.bad")
    site.console()
    damaged = site.places["damage"] + 1
    site.open(f"#/log?start={damaged - 1}&order=oldest")
    assert len(site.all(".events tbody tr")) == 1
    assert "A block is damaged" in site.text(".state.bad")
    site.press("n")
    site.until(lambda: site.text(".events tbody").startswith(f"#{damaged + 1}"))


def test_without_the_token(site: Site) -> None:
    """A plain page that says what to do; and a page that was open when the explorer ended says so, and goes on."""
    site.chrome.delete_all_cookies()
    site.press("r")
    site.until(lambda: "open the new address" in site.text(".state.bad"))
    site.chrome.get(site.url.partition("?")[0])
    assert "Open the whole address that `varve ui` printed" in site.text("body")
    site.chrome.get(site.url)
    site.until(lambda: site.text("main h1") == "Overview")
    assert "token" not in site.chrome.current_url
    assert site.script("return document.cookie") == ""
    site.console()


def test_an_explorer_that_ended(site: Site) -> None:
    """Pages say that it does not answer, and the live view that it tries again; it ends although live views are open."""
    site.open("#/live")
    site.until(lambda: site.text(".status") == "live")
    port = int(site.url.partition("?")[0].rstrip("/").rpartition(":")[2])
    begun = time.monotonic()
    assert ended(site.server) == b""
    assert site.server.returncode == 130
    assert time.monotonic() - begun < WAIT_S
    site.until(lambda: "trying again" in site.text(".status") or "not connected" in site.text(".status"))
    site.press("3")
    site.until(lambda: "The explorer does not answer" in site.text(".state.bad"))
    site.server, site.url = served(site.path, port)
    site.one(".state.bad button").click()
    site.until(lambda: "open the new address" in site.text(".state.bad"))
    site.chrome.get(site.url)
    site.until(lambda: site.text("main h1") == "Overview")
    site.console()


def test_every_page_is_looked_at() -> None:
    """The list above knows every page that the frame knows."""
    frame = (Path(varve.__file__).parent / "ui" / "static" / "app.js").read_text(encoding="utf-8")
    names = frame.partition("const PAGES = {")[2].partition("}")[0]
    known = {part.partition(":")[0].strip().strip('"') for part in names.split(",")}
    assert known == {address.removeprefix("#/").partition("?")[0].partition("/")[0] for address in PAGES.values()}
    assert list(itertools.islice(WIDTHS, 3)) == ["light", "dark", "phone"]
