"""Pictures of any number of channels: what a page shows of them, and their difference, in a real browser."""

import io

import numpy as np
import pytest
from PIL import Image

import memfast
from memfast.auditing.result.pictures import channels_axis
from memfast.data import ArraySource
from memfast.reports import write_report
from memfast.reports.sprites import drawable, sprite_sheets

LONG = "a-very-long-name-without-any-break-" * 8


def items(shape, count, seed, dtype=np.uint8):
    made = np.random.default_rng(seed).integers(0, 256, (count, *shape))
    return made.astype(dtype) if dtype == np.uint8 else (made / 127.5 - 1).astype(dtype)


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (6, 5)), (2, (6, 11)), (3, (6, 5, 3)), (4, (13, 11)), (5, (13, 17)), (16, (27, 23))]
)
def test_channels_lie_side_by_side_and_none_is_lost(channels, shape):
    images = items((6, 5, channels), 3, 0)
    found = drawable(images)
    assert found.shape == (3, *shape)
    if channels != 3:
        across = int(np.ceil(np.sqrt(channels)))
        for channel in range(channels):
            top, left = channel // across * 7, channel % across * 6
            assert np.array_equal(found[:, top : top + 6, left : left + 5], images[..., channel])
    sheet = Image.open(io.BytesIO(memfast_uri(sprite_sheets(found)[0])))
    assert sheet.mode in ("L", "RGB")


def memfast_uri(uri):
    import base64

    return base64.b64decode(uri.partition(",")[2])


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((32, 32, 3), 2), ((3, 32, 32), 0), ((32, 32, 2), 2), ((2, 32, 32), 0), ((4, 16, 16), 0), ((16, 8, 8), 2),
        ((16, 64, 64), 0), ((64, 64, 16), 2), ((16, 16, 16), None), ((16, 16), None), ((100,), None),
        ((200, 200, 200), None), ((2, 3, 4, 5), None),
    ],
)  # fmt: skip
def test_the_axis_of_the_channels(shape, axis):
    if shape == (16, 8, 8):
        axis = 2  # the last axis is shorter than the first: both readings are possible, and channels last is read
    assert channels_axis(shape) == axis


@pytest.mark.parametrize("shape", [(12, 12, 2), (2, 12, 12), (16, 40, 40), (40, 40, 16), (4, 12, 12), (12, 12, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_latents_and_other_images_keep_pictures_of_all_channels(shape, dtype):
    training = items(shape, 20, 0, dtype)
    found = memfast.audit(training[:3], training, controls=False, value_range=None if dtype == np.uint8 else (-1, 1))
    channels = min(shape)
    assert found.pictures.kind == "images"
    assert found.pictures.generated.shape[-1] == channels
    assert np.array_equal(found.pictures.generated, found.pictures.training)
    last = training if shape[-1] == channels else np.moveaxis(training, 1, -1)
    known = last if dtype == np.uint8 else np.rint((last.astype(np.float64) + 1) / 2 * 255)
    assert np.array_equal(found.pictures.generated, known[:3])


def pages(tmp_path, shape, dtype=np.uint8):
    training = items(shape, 40, 0, dtype)
    generated = items(shape, 30, 1, dtype)
    generated[:3] = training[:3]
    names = [f"{LONG}{index}.png" for index in range(40)]
    samples = ArraySource(generated, name=LONG, names=names[:30], labels=np.arange(30))
    known = ArraySource(training, name=LONG, names=names, labels=np.arange(40) % 30)
    samples.class_names = known.class_names = [f"class {number} {LONG}" for number in range(30)]
    result = memfast.audit(samples, known, controls=False)
    return write_report(tmp_path / "report.html", result.report_run(LONG))


@pytest.mark.browser
@pytest.mark.parametrize("shape", [(14, 14), (14, 14, 2), (14, 14, 3), (14, 14, 4), (4, 14, 14), (16, 40, 40)], ids=str)
def test_an_exact_copys_difference_is_black_and_anothers_is_not(new_page, tmp_path, shape):
    page = new_page()
    page.goto(pages(tmp_path, shape, np.float32 if shape[0] < 14 else np.uint8).as_uri())
    page.wait_for_selector(".pair")
    first, last = page.locator(".tile.difference").first, page.locator(".tile.difference").last
    assert brightest(page, page.locator(".tile").first, at_least=60) > 60
    assert brightest(page, last, at_least=60) > 60
    assert brightest(page, first) == 0
    assert page.problems == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_stay_in_their_boxes(new_page, tmp_path, width):
    page = new_page(width)
    page.goto(pages(tmp_path, (14, 14)).as_uri())
    page.wait_for_selector(".pair")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for box in (".pair", ".card", ".warning", ".statement li"):
        assert page.evaluate(OUTSIDE, box) == [], box
    assert page.evaluate(LEAVING_CHARTS) == []
    assert page.problems == []


@pytest.mark.browser
def test_names_can_be_searched(new_page, tmp_path):
    page = new_page()
    page.goto(pages(tmp_path, (14, 14)).as_uri())
    page.wait_for_selector(".pair")
    place = page.locator("#gallery-place")
    assert place.inner_text().endswith("of 30")
    page.fill("#gallery-search", "-17.PNG")
    assert page.locator(".pair").count() >= 1
    assert all("-17.png" in text for text in page.locator(".pair").all_inner_texts())
    page.fill("#gallery-search", "nothing of that name")
    assert place.inner_text() == "0 of 0"
    page.fill("#gallery-search", "")
    assert place.inner_text().endswith("of 30")
    assert page.problems == []


@pytest.mark.browser
def test_the_twenty_worst_classes_are_drawn_and_all_are_listed(new_page, tmp_path):
    page = new_page()
    page.goto(pages(tmp_path, (14, 14)).as_uri())
    section = page.locator("#classes")
    assert "Drawn are the 20 of 30 classes with the largest fraction of copies" in section.inner_text()
    assert section.locator("svg .label").count() == 20
    assert section.locator("tbody tr").count() == 30
    labels = [text.split()[1] for text in section.locator("svg .label").all_text_contents()]
    assert set(labels[:3]) == {"0", "1", "2"}


@pytest.mark.browser
def test_the_pages_policy_stops_any_other_script_style_and_request(new_page, tmp_path):
    path = pages(tmp_path, (14, 14))
    page = path.read_text()
    inserted = (
        "<script>window.ran = 1</script><style>body{display:none}</style><img src='http://127.0.0.1:9/x.png'>"
        "<p style='color:red' onclick='window.ran = 1' id='p'>x</p><link rel='stylesheet' href='http://127.0.0.1:9/x.css'>"
    )
    path.write_text(page.replace("</main>", inserted + "</main>"))
    opened = new_page()
    opened.goto(path.as_uri())
    opened.wait_for_selector(".pair")
    opened.locator("#p").dispatch_event("click")
    assert opened.evaluate("window.ran") is None
    assert opened.evaluate("getComputedStyle(document.body).display") == "block"
    assert opened.evaluate("getComputedStyle(document.getElementById('p')).color") != "rgb(255, 0, 0)"
    assert len([text for text in opened.problems if "Content Security Policy" in text]) >= 5


def brightest(page, locator, at_least=0):
    """The brightest value of an element, without its border; a picture that is not drawn yet is waited for."""
    for _ in range(300):
        pixels = np.array(Image.open(io.BytesIO(locator.screenshot())).convert("L"), np.float64)
        found = pixels[4:-4, 4:-4].max()
        if found >= at_least:
            break
        page.wait_for_timeout(100)
    return found


OUTSIDE = """(selector) => [...document.querySelectorAll(selector)].flatMap((box) => {
  const edge = box.getBoundingClientRect();
  return [...box.querySelectorAll('*')].filter((one) => {
    const own = one.getBoundingClientRect();
    return own.width > 0 && (own.right > edge.right + 1 || own.left < edge.left - 1) && !one.closest('svg');
  }).map((one) => one.className + ' ' + one.textContent.slice(0, 40));
})"""
LEAVING_CHARTS = """() => [...document.querySelectorAll('.chart svg text')].filter((one) => {
  const own = one.getBoundingClientRect();
  const edge = one.ownerSVGElement.getBoundingClientRect();
  return own.right > edge.right + 2 || own.left < edge.left - 2;
}).map((one) => one.textContent.slice(0, 60))"""
