"""A real browser for pages: Debian's Chromium without a window, which selenium drives."""

import json
import shutil
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import attrs
import pytest

OPTIONS = (
    "--headless",
    "--no-sandbox",  # for root, as in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDTHS = (400, 1200)  # a phone and a screen
_AXE = """
const [rules, done] = arguments;
const options = {resultTypes: ["violations"], preload: false};
if (rules.length) options.runOnly = rules;
axe.run(document, options).then(done, error => done(String(error)));
"""


def needed():
    """The browser, its driver and the text of axe-core; skips the test if one is not installed."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(paths):
        pytest.skip("there is no Chromium, or no driver for it: install chromium-driver")
    axe = find_spec("axe_core_python")
    if axe is None:
        pytest.skip("axe-core-python, which carries axe-core, is not installed")
    script = Path(axe.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    return selenium, paths, script


@attrs.frozen
class Browser:
    """A browser with one tab."""

    driver: object
    axe: str

    def open(self, url, *, width=1200, dark=False, media="screen"):
        """Open a page, and forget what happened before."""
        color = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", media=media, features=[color])
        self.resize(width)
        self.driver.get("about:blank")
        self.messages()
        self.requests()
        self.driver.get(str(url))

    def resize(self, width):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        """The value that a script returns; the page's own rules do not apply to it."""
        return self.driver.execute_script(script, *arguments)

    def messages(self):
        """What the page wrote to the console since the last call, such as errors and refusals."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """The addresses that the page asked for since the last call, without data in the page."""
        events = [json.loads(entry["message"]) for entry in self.driver.get_log("performance")]
        sent = [
            e["message"] for e in events if "Network.requestWillBeSent" in e["message"]["method"]
        ]
        urls = [message["params"].get("request", {}).get("url", "") for message in sent]
        return [url for url in urls if url and not url.startswith(("data:", "chrome", "about:"))]

    def overflow(self):
        """The pixels by which the page is wider than the window."""
        return self.run("return document.documentElement.scrollWidth - window.innerWidth")

    def violations(self, *rules):
        """What axe-core finds serious or critical, by these rules of it or by all."""
        self.run(self.axe)
        found = self.driver.execute_async_script(_AXE, rules)
        assert isinstance(found, dict), found
        return [
            f"{v['id']}: {v['nodes'][0]['html'][:200]}"
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        ]

    def press(self, *keys):
        """Press keys, one after the other, as a person would."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def text(self):
        return self.run("return document.body.innerText")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    webdriver, (chromium, driver_path), axe = needed()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in OPTIONS:
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        yield Browser(driver, axe)
    finally:
        driver.quit()


@pytest.fixture
def expect_sound(browser):
    """A function that checks a page in all its forms: light, dark, wide, narrow and on paper."""

    def check(url, *, own=(), refused=False, all_colors=False):
        """Check a page.

        Args:
            url: Its address.
            own: Beginnings of other addresses that it may ask for.
            refused: Whether its server answers with an error, which the console then mentions.
            all_colors: Whether axe-core, which is slow, checks the light form, too. This is enough
                for one page of each style.
        """
        allowed = (str(url), *own)
        for width, dark in zip(WIDTHS, (True, False), strict=True):
            browser.open(url, width=width, dark=dark)
            assert len(browser.messages()) == refused
            assert [r for r in browser.requests() if not r.startswith(allowed)] == []
            assert browser.overflow() <= 0, f"{url} scrolls to the side at {width} pixels"
            if dark or all_colors:  # of all rules, only that of contrasts has to do with colors
                assert browser.violations(*([] if dark else ["color-contrast"])) == []
        for name in ("main", "h1"):
            assert browser.run(f"return document.querySelectorAll('{name}').length") == 1
        assert browser.run("return document.documentElement.lang") == "en"
        ids = browser.run("return [...document.querySelectorAll('[id]')].map(e => e.id)")
        assert [name for name, times in Counter(ids).items() if times > 1] == []

    return check
