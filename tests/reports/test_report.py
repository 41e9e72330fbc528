"""The report: text from data stays text, figures are those of the result, nothing is loaded."""

import base64
import hashlib
import io
import json
import re
from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from memfast.auditing import AuditResult, audit
from memfast.data import ArraySource
from memfast.foundation.errors import InputError
from memfast.reports import ReportRun, document, render, write_report
from memfast.reports.charts import Dot, Line, Points, dot_chart, line_chart, scatter_chart
from memfast.reports.markup import Markup, escape, tag
from memfast.reports.sprites import sprite_sheets
from tests.reports.page_checker import EVIL, parse


def make_result(shape=(12, 10), dtype=np.uint8, name="set"):
    generator = np.random.default_rng(0)
    training = generator.integers(0, 256, (70, *shape)).astype(dtype)
    generated = generator.integers(0, 256, (40, *shape)).astype(dtype)
    generated[:9] = training[:9]
    named = ArraySource(generated, name=name, names=[f"{name} {index}" for index in range(40)])
    return audit(named, training, labels=np.arange(40) % 4, planted=8)


@pytest.fixture(scope="module")
def result():
    return make_result()


TRAINING = {
    "steps": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "held_out_steps": [3], "held_out_loss": [1.5],
    "density": [0.25] * 4, "contribution": [4.0, 2.0, 1.0, 0.0], "facts": {"optimizer": "AdamW", "steps": 3},
}  # fmt: skip


def gallery(page):
    text = re.search(r'<script type="application/json" id="gallery-data">(.*?)</script>', page, re.S).group(1)
    return json.loads(text)


def test_report_holds_the_results_figures(result, tmp_path):
    path = result.report(tmp_path, label="a run", training=TRAINING, title="A title")
    page = path.read_text()
    checker = parse(page)
    assert path == tmp_path / "report.html"
    for text in ("A title", "22.5 %", "9 of 40", "12.3 to 37.5 %", "9 different training items", "AdamW"):
        assert text in checker.text, text
    for entry in result.figures["criteria"]:
        assert entry["title"] in checker.text
    for sentences in result.figures["statement"].values():
        assert all(sentence in checker.text for sentence in sentences)
    for one in ("generated", "training"):
        assert result.figures["inputs"][one]["sha256"] in checker.text
    headings = {attributes.get("id") for name, attributes in checker.elements if name == "section"}
    assert headings == {
        "glance",
        "pairs",
        "criteria",
        "learning",
        "training",
        "classes",
        "power",
        "distribution",
        "made",
    }


def test_report_is_the_same_from_a_loaded_result(result, tmp_path, monkeypatch):
    # The page tells its date, which changes at midnight.
    monkeypatch.setattr(document, "datetime", SimpleNamespace(date=SimpleNamespace(today=lambda: date(2026, 1, 2))))
    result.save(tmp_path)
    loaded = AuditResult.load(tmp_path)
    assert render([loaded.report_run("x")]) == render([result.report_run("x")])


def test_text_from_data_stays_text(tmp_path):
    found = make_result(name=EVIL)
    page = render([found.report_run(EVIL, training={"facts": {EVIL: EVIL}})], title=EVIL, introduction=EVIL)
    checker = parse(page)
    assert not any("onerror" in attributes for _, attributes in checker.elements)
    assert not any(name == "img" for name, _ in checker.elements)
    assert sum(name == "script" for name, _ in checker.elements) == 2
    assert EVIL in checker.text
    assert gallery(page)[0]["pairs"][0][0].endswith(f"{EVIL} 0 (class 0)")


def test_policy_forbids_everything_but_its_own_script(result):
    page = render([result.report_run("x")])
    policy = next(a["content"] for n, a in parse(page).elements if a.get("http-equiv") == "Content-Security-Policy")
    script = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_several_runs_are_side_by_side_and_share_their_floor(result):
    runs = [result.report_run(label, training=TRAINING) for label in ("uniform", "late")]
    page = render(runs)
    checker = parse(page)
    assert checker.text.count("22.5 %") > 2
    assert [run["label"] for run in gallery(page)] == ["uniform", "late"]
    assert "late, held-out:" not in checker.text
    with pytest.raises(InputError, match="each with its own label"):
        write_report("unused.html", [result.report_run("x"), result.report_run("x")])
    with pytest.raises(InputError, match="at least one run"):
        write_report("unused.html", [])


def test_sections_without_data_are_left_out():
    checker = parse(render([ReportRun("only training", training=TRAINING)]))
    assert {a["id"] for n, a in checker.elements if n == "section"} == {"learning", "training"}
    metric = {"value": 3.25, "interval": [3, 4], "better": "lower", "floor": 1.5, "summary": EVIL}
    checker = parse(render([ReportRun("only metrics", metrics={"fid": metric})]))
    assert "1.5" in checker.text
    assert "3.25 (3 to 4)" in checker.text
    assert "lower is better" in checker.text


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3), (7, 9, 4)])
@pytest.mark.parametrize("count", [1, 63, 230])
def test_sprites_give_the_pictures_back(shape, count):
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    if len(shape) == 3 and shape[2] == 4:
        images[..., 3] = np.maximum(images[..., 3], 1)
    sheets = [np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))) for uri in sprite_sheets(images)]
    assert len(sheets) == -(-count // 100)
    for number in range(count):
        top, left = number % 100 // 10 * 7, number % 10 * 9
        assert np.array_equal(sheets[number // 100][top : top + 7, left : left + 9], images[number])


def test_signals_are_drawn_from_numbers():
    found = make_result((33,), np.float32)
    data = gallery(render([found.report_run("x")]))[0]
    assert data["kind"] == "signals"
    assert len(data["generated"]) == 40
    assert data["generated"][0] == data["training"][0]
    assert 0 <= min(map(min, data["generated"])) <= max(map(max, data["generated"])) <= 1000


def test_pairs_beyond_the_pictures_are_counted():
    found = make_result()
    few = AuditResult(found.figures, found.pairs, None)
    run = few.report_run("x")
    page = render([ReportRun("x", audit=run.audit, pairs=run.pairs[:10], total_pairs=40)])
    assert "the 10 worst of 40 pairs are shown" in parse(page).text


def test_charts_are_readable_without_eyes():
    chart = line_chart([Line("one", [0, 1], [0.5, 0.25])], title="A chart", x_label="place", y_label="size")
    checker = parse(chart)
    assert next((n, a["role"]) for n, a in checker.elements if n == "svg") == ("svg", "img")
    assert "size against place: one" in checker.text
    assert "0.25" in checker.text
    share = {"count": 5, "total": 50, "fraction": 0.1, "wilson": [0.05, 0.2]}
    assert "group, run: 10.0 % (5.0 to 20.0 %)" in parse(dot_chart([("group", [Dot("run", share)])], title="t")).text


def test_points_are_one_path_per_set_and_stay_small():
    places = np.random.default_rng(0).normal(size=(1000, 2)).round(3).tolist()
    chart = scatter_chart(
        [Points("training", places, 0), Points("none", []), Points("held-out", places[:500], crosses=True)],
        title="t", x_label="one", y_label="two",
    )  # fmt: skip
    checker = parse(chart)
    paths = [a for n, a in checker.elements if n == "path"]
    assert [a["d"].count("M") for a in paths] == [1000, 500]
    assert "1,000 of training, 500 of held-out" in checker.text
    assert len(chart) < 40_000
    where = np.array([[float(word) for word in one[:-2].split()] for one in paths[0]["d"].split("M")[1:]])
    assert np.corrcoef(where[:, 0], np.array(places)[:, 0])[0, 1] > 0.9999
    assert np.corrcoef(where[:, 1], np.array(places)[:, 1])[0, 1] < -0.9999


def test_the_sets_are_drawn_once_for_runs_of_one_training_set(result):
    checker = parse(render([result.report_run("uniform"), result.report_run("late")]))
    paths = [a["class"] for n, a in checker.elements if n == "path" and a["class"].startswith("points")]
    assert paths == ["points s0", "points s1 few", "points s2 few"]
    without = {**result.figures, "projection": None}
    checker = parse(render([ReportRun("x", audit=without)]))
    assert not any(a.get("id") == "distribution" for n, a in checker.elements if n == "section")


@pytest.mark.parametrize("values", [[], [0.0], [1.0, 1.0], [1e-30, 1e30], [float("nan"), 2.0]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_charts_of_odd_values(values, logarithmic):
    chart = line_chart(
        [Line("x", range(len(values)), values)], title="t", x_label="x", y_label="y", logarithmic=logarithmic
    )
    parse(chart)
    assert "nan" not in chart
    assert "inf" not in chart


def test_long_lines_are_thinned_to_their_means():
    chart = line_chart([Line("x", range(100_000), np.arange(100_000) % 2)], title="t", x_label="x", y_label="y")
    path = next(a["d"] for n, a in parse(chart).elements if n == "path")
    heights = {float(point.split()[1]) for point in path[1:].split("L")}
    assert path.count("L") == 399
    assert max(heights) - min(heights) < 1.0


def test_markup_escapes_all_but_markup():
    assert escape("<") == "&lt;"
    assert escape(Markup("<b>")) == "<b>"
    assert tag("a", "x", title='"', hidden=True, id=None) == '<a title="&quot;" hidden>x</a>'
