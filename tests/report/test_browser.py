"""The page in headless Chromium, by chromedriver's own protocol; skipped where these are not installed."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from headstart.report.build import build

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
)


class Browser:
    """One page in one session of chromedriver."""

    def __init__(self, port, profile):
        self.base = f"http://127.0.0.1:{port}"
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options,
                  "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}  # fmt: skip
        self.base += "/session/" + self.ask("/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def ask(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def run(self, script, *arguments):
        return self.ask("/execute/sync", {"script": script, "args": list(arguments)})

    def log(self, kind):
        return self.ask("/se/log", {"type": kind})


@pytest.fixture(scope="module")
def browser(make_sweep, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    page = build([make_sweep(folder / "demo", runs=60, strategies=3, seeds=4, sizes=[5, 40], failed=0.05)]).page
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    driver = subprocess.Popen(
        [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        session = Browser(port, folder / "profile")
        session.ask("/url", {"url": page.as_uri()})
        yield session
        session.ask("", method="DELETE")
    finally:
        driver.terminate()
        driver.wait(20)


def test_nothing_is_logged_and_nothing_is_fetched(browser):
    assert browser.log("browser") == []
    asked = []
    for entry in browser.log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent" and message["params"]["documentURL"].startswith("file:"):
            asked.append(message["params"]["request"]["url"])
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1


TABLE = "document.querySelector('#comparison table')"
VALUES = "return [..." + TABLE + ".tBodies[0].rows].map(row => row.cells[arguments[0]].textContent.trim())"
HEADS = "return [..." + TABLE + ".tHead.rows[0].cells].map(head => head.textContent)"
FOCUS = TABLE + ".querySelectorAll('thead button')[arguments[0]].focus()"
ORDER = "return " + TABLE + ".tHead.rows[0].cells[arguments[0]].getAttribute('aria-sort')"


def press(browser, key):
    actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
    browser.ask("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})


def test_tables_sort_by_the_keyboard_and_say_so(browser):
    def means():
        return [float(text.split(" ± ")[0]) for text in browser.run(VALUES, 3)]

    before, mean = browser.run(VALUES, 3), means()
    browser.run(FOCUS, 3)
    press(browser, "\ue007")
    assert means() == sorted(mean, reverse=True)
    assert browser.run(ORDER, 3) == "descending"
    press(browser, " ")
    assert means() == sorted(mean)
    assert browser.run(ORDER, 3) == "ascending"
    browser.run(FOCUS, 0)
    press(browser, "\ue007")
    assert browser.run(VALUES, 0) == sorted(browser.run(VALUES, 0))
    assert browser.run(ORDER, 3) is None
    assert sorted(before) == sorted(browser.run(VALUES, 3))


def test_numbers_with_units_sort_by_their_value(browser):
    heads = browser.run(HEADS)
    column = next(place for place, head in enumerate(heads) if head.strip().startswith("Test"))  # "57.7 ± 1.9"
    browser.run(FOCUS.replace("focus", "click"), column)
    script = VALUES.replace("textContent.trim()", "dataset.v")
    values = [float(x) for x in browser.run(script, column)]
    assert values == sorted(values, reverse=True)


def test_every_figure_has_a_name_and_no_part_sticks_out_of_a_narrow_page(browser):
    unnamed = "return [...document.querySelectorAll('figure svg')].filter(s => !s.getAttribute('aria-label')).length"
    assert browser.run(unnamed) == 0
    browser.ask("/window/rect", {"width": 500, "height": 900})
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_table_as_it_is_first_shown_needs_no_scrolling_on_a_screen(browser):
    browser.ask("/window/rect", {"width": 1280, "height": 900})
    wide = browser.run(
        "return [...document.querySelectorAll('main > section > .scroll')]"
        ".filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.getAttribute('aria-labelledby'))"
    )
    assert set(wide) <= {"t-failures", "t-settings"}


def test_text_is_readable_in_light_and_dark(browser):
    """Contrast of text and of each strategy's colour against the paper (WCAG: 4.5 for text, 3 for marks)."""
    from headstart.report.style import ACCENT, INK, MUTED, PAPER, STRATEGIES, palette

    tones = {light: (light, dark) for light, dark, _ in palette().values()}
    for side in (0, 1):
        paper = luminance(tones[PAPER][side])
        for color, least in [(INK, 7), (MUTED, 4.5), (ACCENT, 4.5), *((s[0], 3) for s in STRATEGIES.values())]:
            other = luminance(tones[color][side])
            assert (max(paper, other) + 0.05) / (min(paper, other) + 0.05) >= least, (color, side)


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
