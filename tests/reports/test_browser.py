"""The report in a real browser: light, dark and narrow; no errors, no requests, a gallery that turns its pages."""

import numpy as np
import pytest

from memfast.auditing import audit
from memfast.reports import write_report

VIEWS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (390, "light")}

pytestmark = pytest.mark.browser


def run(kind, count, label, seed):
    generator = np.random.default_rng(seed)
    shape = (14, 14, 3) if kind == "images" else (40,)
    training = generator.integers(0, 256, (200, *shape)).astype(np.uint8 if kind == "images" else np.float32)
    generated = generator.integers(0, 256, (count, *shape)).astype(training.dtype)
    generated[:30] = training[:30]
    generated[30:40] = training[30:40] // 2 + 60
    result = audit(generated, training, labels=np.arange(count) % 3, planted=8)
    steps = np.arange(1, 500)
    about = {
        "steps": steps, "loss": 1 / steps, "density": np.full(1000, 1e-3), "contribution": 1 / np.arange(1, 1001),
        "facts": {"optimizer": "AdamW"},
    }  # fmt: skip
    return result.report_run(label, training=about)


@pytest.fixture(scope="module")
def page_of_images(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    runs = [run("images", 340, "uniform timesteps", 0), run("images", 50, "a late interval with quite a long name", 1)]
    return write_report(path, runs, title="Two runs", introduction="Random pixels with planted copies.")


@pytest.fixture(scope="module")
def page_of_signals(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report") / "report.html", run("signals", 60, "signals", 2))


def open_page(new_page, path, view="light"):
    page = new_page(*VIEWS[view])
    page.goto(path.as_uri())
    page.wait_for_selector(".pair")
    return page


@pytest.mark.parametrize(
    ("kind", "view"), [("images", "light"), ("images", "dark"), ("images", "narrow"), ("signals", "narrow")]
)
def test_page_is_quiet_fits_and_asks_for_nothing(new_page, request, tmp_path, kind, view):
    path = request.getfixturevalue(f"page_of_{kind}")
    page = open_page(new_page, path, view)
    picture = tmp_path / f"{view}.png"
    page.screenshot(path=picture, full_page=True)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    sizes = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert picture.stat().st_size > 20_000
    assert sizes[0] <= sizes[1]
    assert page.problems == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 26)" if view == "dark" else "rgb(251, 251, 249)"
    )
    page.context.close()


def test_text_stands_out_from_its_ground(new_page, page_of_images):
    for view in ("light", "dark"):
        page = open_page(new_page, page_of_images, view)
        for selector in ("body", ".note", ".card h3", ".warning", ".pair .s1", ".pair .s2", "summary", ".heat.h5"):
            ratio = page.evaluate(CONTRAST, selector)
            assert ratio is None or ratio >= 4.5, (view, selector, ratio)
        page.context.close()


def test_gallery_pages_filters_sorts_and_changes_run(new_page, page_of_images):
    page = open_page(new_page, page_of_images)
    place = page.locator("#gallery-place")
    assert place.inner_text() == "1 to 12 of 340"
    assert page.locator(".pair").count() == 12
    assert page.locator("#gallery-back").is_disabled()
    page.click("#gallery-on")
    assert place.inner_text() == "13 to 24 of 340"
    page.fill("#gallery-page", "29")
    page.locator("#gallery-page").press("Enter")
    assert place.inner_text() == "337 to 340 of 340"
    assert page.locator("#gallery-on").is_disabled()
    page.select_option("#gallery-filter", label="Nearest-neighbour ratio")
    assert place.inner_text().endswith("of 30")
    page.select_option("#gallery-filter", "all")
    page.select_option("#gallery-order", label="Absolute distance")
    distances = [
        float(text.split()[1]) for text in page.locator(".pair .facts span:has-text('distance')").all_inner_texts()
    ]
    assert distances == sorted(distances)
    page.select_option("#gallery-run", "1")
    assert place.inner_text() == "1 to 12 of 50"
    assert page.problems == []
    page.context.close()


def test_difference_of_an_exact_copy_is_black_and_of_another_is_not(new_page, page_of_images):
    page = open_page(new_page, page_of_images)
    for number in (0, 1):
        assert bright(page, page.locator(".tile").nth(number), at_least=50) > 50
    assert bright(page, page.locator(".tile.difference").first) == 0
    page.select_option("#gallery-order", label="Absolute distance")
    page.fill("#gallery-page", "28")
    page.locator("#gallery-page").press("Enter")
    assert bright(page, page.locator(".tile.difference").first, at_least=50) > 50
    assert bright(page, page.locator(".tile").first, at_least=50) > 50
    page.context.close()


def test_signals_are_drawn_as_two_lines(new_page, page_of_signals):
    page = open_page(new_page, page_of_signals)
    drawing = page.locator(".pair svg").first
    assert drawing.locator("polyline").count() == 2
    points = [line.get_attribute("points") for line in drawing.locator("polyline").all()]
    assert points[0] == points[1]
    page.context.close()


def bright(page, locator, at_least=0):
    """The brightest value of an element; a picture that is not drawn yet, and so is black, is waited for."""
    import io

    from PIL import Image

    for _ in range(300):
        pixels = np.array(Image.open(io.BytesIO(locator.screenshot())).convert("L"), np.float64)
        found = pixels[4:-4, 4:-4].max()
        if found >= at_least:
            break
        page.wait_for_timeout(100)
    return found


CONTRAST = """(selector) => {
  const element = document.querySelector(selector);
  if (!element) return null;
  const parse = (text) => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
  const chain = [];
  for (let one = element; one; one = one.parentElement) chain.push(parse(getComputedStyle(one).backgroundColor));
  let ground = [255, 255, 255];
  for (const [r, g, b, a] of chain.reverse()) ground = [r, g, b].map((value, at) => value * a + ground[at] * (1 - a));
  const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [one, other] = [light(parse(getComputedStyle(element).color).slice(0, 3)), light(ground)];
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}"""
