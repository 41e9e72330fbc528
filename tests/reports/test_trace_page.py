"""The page of a trace shows the trace's numbers, leaves out what is missing, escapes text, and works in a browser."""

import base64
import copy
import hashlib
import json
import re

import numpy as np
import pytest

from memfast.foundation.errors import InputError
from memfast.reports import render_trace, write_trace_report
from memfast.reports.charts import Line, line_chart
from memfast.reports.trace_sections.groups import curves, groups, highlighted
from memfast.reports.trace_sections.rows import tables_data
from memfast.results.trace import read_trace_figures
from tests.reports.page_checker import EVIL, parse
from tests.reports.trace_sample import STEPS, condition, make_trace

EVERY = {
    "glance", "coefficients", "deviation", "diversity", "losses", "gap", "alignment", "guidance", "detection", "rows",
    "made",
}  # fmt: skip


def sections(page):
    return {attributes["id"] for name, attributes in parse(page).elements if name == "section"}


def tables(page):
    text = re.search(r'<script type="application/json" id="tables-data">(.*?)</script>', page, re.S).group(1)
    return json.loads(text)


def test_page_shows_the_traces_numbers(tmp_path):
    path = write_trace_report(tmp_path / "trace.html", make_trace(), title="A title")
    page = path.read_text()
    checker = parse(page)
    assert sections(page) == EVERY
    for text in ("A title", "a made-up run", "0.91", "r = 0.70 (0.50 to 0.83)", "2 of 2", "0.875", "0.600 to 1.000",
                 "10.0 to 90.0 %", "at guidance 7.5", "abc123", "9.9.9", "10.5"):  # fmt: skip
        assert text in checker.text, text
    assert "0.5 (memorized) and 6 (not memorized) apart; their noise started 20 apart" in checker.text
    assert "7.5 (memorized) and 2 (not memorized) times" in checker.text


def test_groups_are_means_with_the_middle_of_their_conditions():
    trace = read_trace_figures(make_trace())
    losses = np.array([one.loss.guided for one in trace.conditions])
    first, second = curves(trace, lambda one: one.loss.guided)
    assert [first.name, second.name] == ["memorized (2, mean)", "not memorized (3, mean)"]
    assert np.allclose(first.y, losses[:2].mean(axis=0))
    assert np.allclose(second.y, losses[2:].mean(axis=0))
    assert np.allclose([second.low, second.high], np.quantile(losses[2:], [0.1, 0.9], axis=0))
    assert highlighted(trace) == []


def test_unlabelled_conditions_are_one_group_and_the_largest_d1_stand_out():
    trace = read_trace_figures(make_trace([None] * 30))
    assert [group.name for group in groups(trace.conditions)] == ["all conditions"]
    assert [one.label for one, _ in highlighted(trace)] == [29, 28, 27, 26, 25, 24]
    assert [line.name for line in curves(trace, lambda one: one.branch_gap)][1] == "condition 29"
    page = render_trace(trace)
    assert sections(page) == EVERY - {"detection"}
    assert "30 of 30" not in parse(page).text
    assert "29 of 30" in parse(page).text


def test_some_labelled_make_three_groups():
    assert [group.name for group in groups(read_trace_figures(make_trace([True, False, None])).conditions)] == [
        "memorized", "not memorized", "unlabelled",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "gone"),
    [
        (["w_target"], {"coefficients"}),
        (["diversity"], {"diversity"}),
        (["loss"], {"losses"}),
        (["branch_gap", "posterior"], {"gap"}),
        (["alignment_target", "alignment_initial"], {"alignment"}),
        (["d1", "d2", "normalised_loss"], {"deviation"}),
    ],
)
def test_sections_without_data_are_left_out(keys, gone):
    trace = make_trace()
    for one in trace["conditions"]:
        one.update(dict.fromkeys(keys))
    assert sections(render_trace(trace)) == EVERY - gone


def test_the_barest_trace_has_a_page():
    whole = make_trace([None])
    bare = {"kind": "trace", "conditions": [{"name": "alone", "memorized": None}]}
    assert sections(render_trace(bare)) == {"glance", "rows", "made"}
    none = {key: None for key in whole if key not in ("kind", "conditions")}
    page = render_trace({**whole, **none})
    assert "detection" not in sections(page)
    assert "nan" not in page.lower().replace("nanoseconds", "")


def test_conditions_without_a_target_do_not_change_the_means():
    trace = make_trace()
    lacking = copy.deepcopy(trace)
    lacking["conditions"].append(condition(5, False, target=False))
    for key in ("w_target", "w_initial"):
        before, after = (
            curves(read_trace_figures(one), lambda c, key=key: getattr(c, key) and getattr(c, key).mean)
            for one in (trace, lacking)
        )
        assert [line.y for line in before] == [line.y for line in after]
        assert [line.name for line in after] == ["memorized (2, mean)", "not memorized (3, mean)"]
    assert "1 condition without a target" in parse(render_trace(lacking)).text


def test_the_axis_says_whether_the_finished_sample_is_among_the_states():
    page = render_trace(make_trace())
    chapters = dict(zip(*[iter(re.split(r'<section id="(\w+)"', page)[1:])] * 2, strict=True))
    with_last, without = "the last is the finished sample", "the finished sample is left out"
    for name in ("coefficients", "diversity"):
        assert with_last in chapters[name]
        assert without not in chapters[name]
    for name in ("losses", "gap", "alignment"):
        assert without in chapters[name]
        assert with_last not in chapters[name]


def test_a_single_seed_has_no_interval_and_a_rule_is_named():
    trace = make_trace([None])
    for key in ("low", "high"):
        trace["conditions"][0]["w_target"][key] = [None] * (STEPS + 1)
    trace["sampler"]["guidance"] = {"name": "delayed", "until": 0.65, "scale": 7.5, "before": 0.0}
    trace["correlations"] = {"d1": {"pearson": None, "interval": None, "n": 1}, "d2": None}
    text = parse(render_trace(trace)).text
    assert "delayed (until 0.65, scale 7.5, before 0)" in text
    assert "no correlation" in text


def test_text_from_data_stays_text():
    trace = make_trace()
    for one in trace["conditions"]:
        one["name"] = EVIL
        one["similarity"]["name"] = EVIL
    trace["source"]["name"] = trace["provenance"]["commit"] = EVIL
    trace["provenance"]["versions"][EVIL] = EVIL
    trace["detection"] = {EVIL: trace["detection"]["wen"]}
    page = render_trace(trace, title=EVIL, introduction=EVIL)
    checker = parse(page)
    assert not any("onerror" in attributes for _, attributes in checker.elements)
    assert not any(name == "img" for name, _ in checker.elements)
    assert sum(name == "script" for name, _ in checker.elements) == 2
    assert EVIL in checker.text
    assert tables(page)["conditions"]["rows"][0][0] == EVIL


def test_policy_forbids_everything_but_its_own_script():
    page = render_trace(make_trace())
    policy = next(a["content"] for n, a in parse(page).elements if a.get("http-equiv") == "Content-Security-Policy")
    script = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)


def test_tables_hold_every_row_and_drop_empty_columns():
    trace = make_trace()
    found = tables_data(read_trace_figures(trace))
    assert [title for title, _ in found["conditions"]["columns"]] == [
        "Condition", "Label", "Memorized", "D1", "D2", "Similarity", "Overestimation", "Normalised loss", "wen", "jeon",
    ]  # fmt: skip
    assert found["conditions"]["rows"][1] == ["condition 1", 1, "yes", 11.0, 1.1, -0.083333, 7.5, 0.01, 11.0, 1e-5]
    assert found["seeds"]["rows"][4] == ["condition 1", "yes", 1, 12.0, 0.5, -1.5, 8, 0.125]
    assert len(found["seeds"]["rows"]) == found["seeds"]["total"] == 15
    for one in trace["conditions"]:
        one["memorized"] = None
        for seed in one["seeds"]:
            seed["nearest"] = None
    assert [title for title, _ in tables_data(read_trace_figures(trace))["seeds"]["columns"]] == [
        "Condition", "Seed", "D1", "D2", "Similarity",
    ]  # fmt: skip


def test_many_conditions_stay_small():
    page = render_trace(make_trace([number % 5 == 0 for number in range(1000)], seeds=10))
    assert len(page) < 1_600_000
    assert len(re.findall("<path", page)) < 120


@pytest.mark.parametrize("content", [{}, {"kind": "audit"}, [], {"kind": "trace", "conditions": []}])
def test_something_else_than_a_trace_is_refused(content, tmp_path):
    with pytest.raises(InputError, match="trace: expected"):
        write_trace_report(tmp_path / "trace.html", content)
    assert not any(tmp_path.iterdir())


def test_bands_lie_behind_lines_and_leave_with_them():
    lines = [Line("one", [0, 1, 2], [1, 2, 3], low=[0, 1, 2], high=[2, 3, 9]), Line("two", [0, 2], [1, 1], dotted=True)]
    chart = line_chart(lines, title="t", x_label="x", y_label="y")
    classes = [a["class"] for n, a in parse(chart).elements if n == "path"]
    assert classes == ["band s1", "line s1", "line s1 dotted"]
    gone = line_chart([Line("x", [0, 1], [1, 1], low=[0, -1], high=[2, 2])], title="t", x_label="", y_label="", logarithmic=True)  # fmt: skip # noqa: E501
    assert "Nothing to draw" in gone
