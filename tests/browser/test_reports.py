"""Reports in a real browser: what is drawn, what is asked for, and what a keyboard reaches."""

import base64
import io
import itertools

import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn.cli import main
from pydnn.reports import report_of_run, report_of_runs, report_of_sweep
from pydnn.reports.charts import table
from pydnn.reports.page import Section, page
from pydnn.sweeps import run_sweep, sweep

pytestmark = pytest.mark.slow

SIDE = 8  # pixels of the images
MARK = "document.title='broken'"
BAD = f"</title></script><script>{MARK}</script>\"'><img src=x onerror={MARK}><svg onload={MARK}>"
BAD += "&lt;b&gt;\x1b[31mred\x1b]0;broken\x07\u202egnidnefed"
LONG = "x" * 10_000


def pictures(m=120, key=1):
    """Images, flat, in two classes: brighter at the left, or at the right."""
    X = nn.Key(key).at("X").uniform((SIDE, SIDE, 3, m))
    left, right = X[:, : SIDE // 2].mean(axis=(0, 1, 2)), X[:, SIDE // 2 :].mean(axis=(0, 1, 2))
    X, Y = X.reshape(-1, m), (left > right)[np.newaxis].astype(np.int64)
    train, test = nn.Batch(X[:, 40:], Y[:, 40:]), nn.Batch(X[:, :40], Y[:, :40])
    return nn.data.DataSet(train, test, image_shape=(SIDE, SIDE, 3), classes=("right", "left"))


RECIPE = nn.Recipe(
    data="small pictures",
    network="serial(dense(6), relu, dense(2))",
    loss="softmax_cross_entropy",
    optimizer="adam(learning_rate=0.01)",
    iterations=40,
    validation=0.25,
    evaluate_every=5,
)


def record(folder, recipe=RECIPE, steps=None):
    data = pictures()
    job = nn.jobs.prepare(recipe, data)
    with nn.runs.create_run(folder, job, data) as recording, np.errstate(all="ignore"):
        for _ in nn.runs.record(recording, itertools.islice(nn.jobs.run(job), steps)):
            pass
    return nn.runs.Run.open(folder, data=data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def small(folder):
    return written(folder / "small.html", report_of_run(record(folder / "small")))


def three(folder):
    changes = [{"seed": 1}, {"seed": 2}, {"optimizer": nn.adam(learning_rate=0.05)}]
    recipes = [attrs.evolve(RECIPE, **change) for change in changes]
    runs = [record(folder / f"run{i}", recipe) for i, recipe in enumerate(recipes)]
    return report_of_runs(runs)


def diverged(folder):
    recipe = attrs.evolve(RECIPE, optimizer=nn.gradient_descent(learning_rate=1e200))
    with pytest.raises(nn.training.NotFinite):
        record(folder / "diverged", recipe)
    return report_of_run(nn.runs.Run.open(folder / "diverged", data=pictures()))


def interrupted(folder):
    return report_of_run(record(folder / "interrupted", steps=17))


def test_the_report_of_a_run_is_sound(small, expect_sound, browser):
    expect_sound(small, all_colors=True)
    pictures = browser.run("return [...document.images].map(i => [i.naturalWidth, i.alt])")
    assert all(width == SIDE and text for width, text in pictures)
    shapes = browser.run(
        "return [...document.images].map(i => i.getBoundingClientRect()).map(r => r.width/r.height)"
    )
    np.testing.assert_allclose(shapes, 1, rtol=0.02)


def swept(folder):
    over = {"optimizer.learning_rate": [0.05, 0.001, 1e300], "network.0.units": [2, 6]}
    recipe = attrs.evolve(RECIPE, iterations=15)
    run_sweep(sweep(recipe, pictures(), seeds=2, over=over), record=folder / "sweep")
    return report_of_sweep(folder / "sweep")


@pytest.mark.parametrize(
    "make", [three, swept, diverged, interrupted], ids=lambda make: make.__name__
)
def test_reports_of_other_runs_are_sound(make, folder, expect_sound):
    expect_sound(written(folder / f"{make.__name__}.html", make(folder)))


def test_every_curve_lies_inside_its_chart(small, browser):
    browser.open(small)
    outside = browser.run("""
        return [...document.querySelectorAll("svg .line, svg .band, svg text")].filter(mark => {
            const box = mark.getBoundingClientRect();
            const chart = mark.ownerSVGElement.getBoundingClientRect();
            return box.left < chart.left - 1 || box.right > chart.right + 1
                || box.top < chart.top - 1 || box.bottom > chart.bottom + 1;
        }).map(mark => mark.outerHTML.slice(0, 200))""")
    assert outside == []


def test_labels_of_an_axis_do_not_cover_each_other(small, browser):
    for width in (400, 1200):
        browser.open(small, width=width)
        covered = browser.run("""
            const found = [];
            for (const chart of document.querySelectorAll(".chart > svg")) {
                const texts = [...chart.querySelectorAll("text")];
                const boxes = texts.map(text => text.getBoundingClientRect());
                for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
                    const [a, b] = [boxes[i], boxes[j]];
                    if (a.left < b.right && b.left < a.right && a.top < b.bottom - 2
                        && b.top < a.bottom - 2)
                        found.push(texts[i].textContent + " / " + texts[j].textContent);
                }
            }
            return found;""")
        assert covered == []


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(small, browser):
    from selenium.webdriver.common.keys import Keys

    browser.open(small)
    count = browser.run("""
        const all = [...document.querySelectorAll("a[href], summary, [tabindex]")];
        const reachable = all.filter(element => element.checkVisibility());
        reachable.forEach((element, place) => element.dataset.place = place);
        return reachable.length;""")
    reached = []
    for _ in range(count):
        browser.press(Keys.TAB)
        place, outline = browser.run("""
            const now = document.activeElement;
            return [now.dataset.place, getComputedStyle(now).outlineStyle];""")
        reached.append(int(place))
        assert outline != "none", "nobody sees where the keyboard is"
    assert reached == list(range(count))
    assert count > 12


def test_enter_opens_the_numbers_of_a_chart(small, browser):
    from selenium.webdriver.common.keys import Keys

    browser.open(small)
    browser.run("document.querySelector('summary').focus()")
    browser.press(Keys.ENTER)
    assert browser.run("return document.querySelector('details').open")
    assert browser.run("return document.querySelector('details table').offsetHeight") > 50


def test_links_lead_to_named_sections(small, browser):
    browser.open(small)
    assert browser.run("return document.querySelectorAll('nav[aria-label]').length") == 1
    links = browser.run("return [...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
    named = browser.run("""
        return [...document.querySelectorAll("main section")].map(
            section => document.getElementById(section.getAttribute("aria-labelledby")).id)""")
    assert links == named
    assert "results" in named
    levels = browser.run(
        "return [...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName[1])"
    )
    assert levels[0] == "1"
    assert levels.count("1") == 1


def test_paper_is_white_and_has_no_links_and_nothing_to_unfold(small, browser):
    browser.open(small, width=750, dark=True, media="print")
    white, hidden, overflow = browser.run("""
        const left_out = [...document.querySelectorAll("nav, details:not([open])")];
        return [getComputedStyle(document.body).backgroundColor,
            left_out.map(element => element.offsetHeight),
            document.documentElement.scrollWidth - innerWidth];""")
    assert white == "rgb(255, 255, 255)"
    assert set(hidden) == {0}
    assert overflow <= 0
    color = browser.run("return getComputedStyle(document.querySelector('.line.s0')).stroke")
    assert color == "rgb(11, 98, 164)"  # dark enough for paper


def test_curves_are_darker_or_lighter_than_the_page_in_both_forms(small, browser):
    for dark in (False, True):
        browser.open(small, dark=dark)
        page, curve = (
            sum(int(c) for c in color.strip("rgb()").split(","))
            for color in browser.run("""
                return [getComputedStyle(document.body).backgroundColor,
                    getComputedStyle(document.querySelector(".line.s0")).stroke];""")
        )
        assert (page < curve) == dark
        assert abs(page - curve) > 200


def test_a_table_that_goes_on_to_a_side_has_a_shadow_there(folder, browser):
    image = pytest.importorskip("PIL.Image")
    wide = table([f"column {i}" for i in range(8)], [["0.123456"] * 8] * 9)
    url = written(folder / "wide.html", page("Wide", [], [Section("wide", "Wide", [wide])]))

    def edges():
        """How light the table is at its left and at its right."""
        x, y, width, height = browser.run("""
            const box = document.querySelector(".wide").getBoundingClientRect();
            return [box.x, box.y, box.width, box.height];""")
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        shot = browser.command("Page.captureScreenshot", clip=clip)
        with image.open(io.BytesIO(base64.b64decode(shot["data"]))) as picture:
            gray = np.asarray(picture.convert("L"))
        return int(gray[2, :4].min()), int(gray[2, -4:].min())

    browser.open(url, width=400)
    left, right = edges()
    assert left > 250 > right + 20
    browser.run("document.querySelector('.wide').scrollLeft = 1e6")
    left, right = edges()
    assert right > 250 > left + 20
    browser.open(url, width=1200)
    assert min(edges()) > 250


@pytest.fixture(scope="module")
def hostile(folder):
    """The report of a run whose file, columns, cells, classes and folder want to do harm."""
    named = BAD.replace("/", "_").replace("\0", "")[:80]
    table = folder / f"{named}.csv"
    quoted = BAD.replace('"', '""')
    lines = [f'"{quoted}","{LONG}",class']
    classes = [f'"a{quoted}"', f'"b{LONG}"']
    lines += [f"{(i * 7) % 10},{LONG}{i % 3},{classes[i % 2]}" for i in range(40)]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run, page = folder / f"run {named}", folder / "hostile.html"
    argv = ["--data", table, "--target", "class", "--iterations", 10, "--run", run, "--quiet"]
    assert main(["train", *map(str, argv)]) == 0
    assert main(["report", str(run), "--out", str(page)]) == 0
    return page.as_uri()


def test_names_that_want_to_do_harm_are_text(hostile, expect_sound, browser):
    expect_sound(hostile)
    assert browser.run("return document.title").startswith("Run run")
    harmful = (
        "return document.querySelectorAll('script, img[src=x], svg[onload], [onerror]').length"
    )
    assert browser.run(harmful) == 0
    text = browser.text()
    assert "<script>document" in text
    assert "<img src=x" in text
    assert not any(character in text for character in "\x1b\x07\u202e")
