"""The board in a real browser, beside a training in a process of its own."""

import shutil
import signal
import subprocess
import sys
import time

import attrs
import pytest
from small_board import HOSTILE, served
from small_runs import recorded, saved_data, small_recipe

from pydnn.recipes.toml import write_recipe

pytestmark = pytest.mark.slow

LIVE = "live <b>\N{SNOWMAN}</b>" if sys.platform != "win32" else "live"
_PATIENCE = 60  # seconds, which only a page that never changes takes


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    base = tmp_path_factory.mktemp("board")
    folder = base / "runs"
    folder.mkdir()
    recipe = small_recipe(base, validation=0.25, evaluate_every=4)
    recorded(folder / "0001", recipe)
    recorded(folder / "0002", attrs.evolve(recipe, seed=4, iterations=16), steps=8)
    if sys.platform != "win32":
        shutil.copytree(folder / "0001", folder / HOSTILE)
    return folder


@pytest.fixture(scope="module")
def board(runs):
    with served(runs) as client:
        yield f"http://127.0.0.1:{client.port}"


@pytest.fixture(scope="module")
def training(runs):
    """A training in another process, which ends with the tests of this file."""
    recipe = small_recipe(runs.parent, validation=0.25, evaluate_every=50, iterations=10_000_000)
    path = runs.parent / "long.toml"
    path.write_text(write_recipe(attrs.evolve(recipe, data=saved_data(runs.parent))))
    # A job that a shell runs in the background ignores interruptions, and so do its children.
    program = (
        "import signal; from pydnn.cli import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); raise SystemExit(main())"
    )
    argv = [sys.executable, "-c", program, "train", path, "--run", runs / LIVE, "--quiet"]
    process = subprocess.Popen([str(word) for word in argv])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(question):
    """The first true answer to a question that is asked again and again."""
    end = time.monotonic() + _PATIENCE
    while not (answer := question()):
        assert time.monotonic() < end, "the page does not change"
        time.sleep(0.1)
    return answer


def test_pages_of_the_board_are_sound(board, browser, expect_sound):
    expect_sound(f"{board}/", own=[board], all_colors=True)
    for target in ("/run?run=0001", "/compare?run=0001&run=0002", "/step?run=0001&step=3"):
        expect_sound(f"{board}{target}", own=[board])
    expect_sound(f"{board}/nowhere", own=[board], refused=True)


def test_links_and_buttons_lead_on(board, browser):
    from selenium.webdriver.common.by import By

    browser.open(f"{board}/")
    for box in browser.driver.find_elements(By.CSS_SELECTOR, "input[type=checkbox]")[:2]:
        box.click()
    browser.driver.find_element(By.CSS_SELECTOR, "button[formaction='/compare']").click()
    until(lambda: "/compare?" in browser.driver.current_url)
    assert "0002" in browser.text()
    browser.open(f"{board}/run?run=0001")
    browser.driver.find_element(By.PARTIAL_LINK_TEXT, "eport").click()
    until(lambda: "/report?" in browser.driver.current_url)
    until(lambda: "Run 0001" in browser.text())
    assert browser.messages() == []


def test_the_filter_works_while_somebody_types(board, browser):
    browser.open(f"{board}/")
    browser.run("window.same = true; document.getElementById('filter').focus()")
    browser.press(*"seed=4")
    names = "return [...document.querySelectorAll('tbody tr')].map(row => row.dataset.key)"
    until(lambda: browser.run(names) == ["0002"])
    assert browser.run("return window.same"), "the page was loaded again"
    assert browser.run("return document.activeElement.id") == "filter"


def test_the_keyboard_skips_to_the_content(board, browser):
    from selenium.webdriver.common.keys import Keys

    browser.open(f"{board}/")
    browser.press(Keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    assert browser.run("return document.activeElement.getBoundingClientRect().left") >= 0
    browser.press(Keys.ENTER)
    until(lambda: browser.run("return location.hash") == "#content")


@pytest.mark.skipif(sys.platform == "win32", reason="the name holds what no file there may")
def test_names_that_want_to_do_harm_are_text_on_the_board(board, browser):
    browser.open(f"{board}/")
    assert browser.run("return document.querySelectorAll('script:not([src])').length") == 0
    assert "<script>alert(1)<" in browser.text()
    assert "\x1b" not in browser.text()
    [link] = browser.run("""
        return [...document.querySelectorAll("tbody a")].map(a => a.href)
            .filter(address => address.includes("alert"));""")
    browser.open(link)
    assert "<script>alert(1)<" in browser.text()
    assert browser.messages() == []


def test_rows_arrive_while_a_training_runs_in_another_process(board, browser, training):
    browser.open(f"{board}/")
    steps = """
        const bar = [...document.querySelectorAll("progress")].find(
            bar => bar.getAttribute("aria-label").includes("live"));
        return bar ? bar.value : 0;"""
    browser.run("window.same = true")
    first = until(lambda: browser.run(steps))
    second = until(lambda: (now := browser.run(steps)) > first and now)
    curve = "return document.querySelector('#training .line').getAttribute('d')"
    drawn = browser.run(curve)
    until(lambda: browser.run(steps) > second and browser.run(curve) != drawn)
    assert browser.run("return window.same"), "the page was loaded again"
    assert browser.messages() == []
    assert [url for url in browser.requests() if not url.startswith(board)] == []


def test_the_page_of_a_training_goes_on_by_itself_and_keeps_what_is_open(
    board, browser, training, expect_sound
):
    browser.open(f"{board}/")
    find = """
        const links = [...document.querySelectorAll("#training a")].map(a => a.href);
        return links.find(address => address.includes("live"));"""
    address = until(lambda: browser.run(find))
    expect_sound(address, own=[board])
    browser.run("document.querySelector('.chart details').open = true; window.same = true")
    curve = "return document.querySelector('.chart .line').getAttribute('d')"
    drawn = browser.run(curve)
    until(lambda: browser.run(curve) != drawn)
    assert browser.run("return document.querySelector('.chart details').open")
    assert browser.run("return window.same")


def test_a_training_that_ends_is_no_longer_shown_as_training(board, browser, training):
    browser.open(f"{board}/")
    bars = "return document.querySelectorAll('#training progress').length"
    until(lambda: browser.run(bars) == 1)
    training.send_signal(signal.SIGINT)
    training.wait(timeout=_PATIENCE)
    until(lambda: browser.run(bars) == 0)
    assert "interrupted" in browser.text()
