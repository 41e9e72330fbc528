"""The page of a trace in a real browser: no errors, no requests, nothing cut off, tables that sort by keyboard."""

import pytest

from memfast.reports import write_trace_report
from tests.reports.trace_sample import make_trace

pytestmark = pytest.mark.browser


def open_page(new_page, path, width=1280, scheme="light"):
    page = new_page(width, scheme)
    page.goto(path.as_uri())
    return page


def quiet_and_fits(page):
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    wide, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    others = [url for url in page.asked if not url.startswith(("file:", "data:"))]
    return wide <= room and page.problems == [] and others == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "long-names"])
def test_page_is_quiet_fits_and_its_words_stay_inside(new_page, tmp_path, labelled, width):
    trace = make_trace() if labelled else make_trace([None] * 40, name="a photograph of something " * 6)
    path = write_trace_report(tmp_path / "trace.html", trace)
    page = open_page(new_page, path, width, "dark" if labelled else "light")
    assert quiet_and_fits(page)
    assert page.evaluate(OUTSIDE) == []
    page.context.close()


class TestTables:
    @pytest.fixture
    def page(self, new_page, tmp_path):
        flags = [number % 4 == 0 for number in range(60)]
        page = open_page(new_page, write_trace_report(tmp_path / "trace.html", make_trace(flags)))
        yield page
        assert page.problems == []
        page.context.close()

    def column(self, page, number):
        return page.locator(f"#conditions-table tbody tr > *:nth-child({number})").all_inner_texts()

    def test_sorts_by_a_heading_with_the_keyboard(self, page):
        deviations = [float(text) for text in self.column(page, 4)]
        assert deviations == sorted(deviations, reverse=True)
        assert page.locator("#conditions-table th[aria-sort]").inner_text().startswith("D1")
        page.locator("#conditions-table th button", has_text="D1").focus()
        page.keyboard.press("Enter")
        deviations = [float(text) for text in self.column(page, 4)]
        assert deviations == sorted(deviations)
        assert page.locator("#conditions-table th[aria-sort]").get_attribute("aria-sort") == "ascending"
        page.locator("#conditions-table th button", has_text="Condition").focus()
        page.keyboard.press("Space")
        assert self.column(page, 1)[:3] == ["condition 0", "condition 1", "condition 2"]

    def test_pages_filters_and_searches(self, page):
        place = page.locator("#conditions-place")
        assert place.inner_text() == "1 to 25 of 60"
        page.click("#conditions-on")
        page.click("#conditions-on")
        assert place.inner_text() == "51 to 60 of 60"
        assert page.locator("#conditions-on").is_disabled()
        page.select_option("#conditions-filter", "yes")
        assert place.inner_text() == "1 to 15 of 15"
        page.fill("#conditions-search", "CONDITION 5")
        assert self.column(page, 1) == ["condition 56", "condition 52"]
        page.fill("#conditions-search", "nowhere")
        assert place.inner_text() == "none"
        page.click("summary:has-text('Every seed')")
        assert page.locator("#seeds-place").inner_text() == "1 to 25 of 180"


OUTSIDE = """() => [...document.querySelectorAll('main svg')].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter((text) => {
    const box = text.getBoundingClientRect();
    return frame.width && (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1);
  }).map((text) => text.textContent);
})"""
