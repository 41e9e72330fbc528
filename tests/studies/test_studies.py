"""The frame of the studies: results kept by settings, jobs that fail alone, intervals, data, the page."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from memfast.foundation.errors import InputError
from studies import data, figures, page, results
from studies.__main__ import main
from studies.runner import Job, run_jobs
from studies.spread import Spread, kind_of_interval
from studies.study import Judgement, Size, Study, Table, studies, study_of

needs_data = pytest.mark.skipif(not data.present(), reason="../shared/data is not here")


@dataclass(frozen=True)
class Count(Size):
    items: int


def judged(runs: list) -> Judgement:
    values = Spread.of(run["value"] for run in runs)
    verdict = "holds" if values.mean > 1 else "not here"
    told = f"The value is {values.text()}, {values.mean:.0%} of one, 5 % off."
    return Judgement(verdict, told, [Table("All:", ("a|b",), [(values.text(),)])])


def drawn(runs: list, path: Path) -> None:
    drawing, axes = figures.axes()
    axes[0, 0].plot([run["value"] for run in runs])
    figures.save(drawing, path)


STUDY = Study(
    number=1, slug="no_such_file", title="A claim", claim="It is so.", source="A paper.", setup="With {items} items.",
    rule="*holds* above 1.", differences="None.", sizes=(Count("quick", 3), Count("full", 30)),
    run=lambda size, seed: {}, judge=judged, figure=drawn,
)  # fmt: skip


def entry(seed: int, value: float) -> dict:
    return results.entry(seed, {"value": value}, seconds=2.0, cpu_seconds=1.5)


def test_three_seeds_are_told_as_a_range_and_five_as_students_interval():
    assert Spread.of([1, 2, 6]) == Spread(3.0, 1.0, 6.0, 3)
    values = [1.0, 2.0, 4.0, 4.0, 9.0]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    found = Spread.of(values)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert "least to greatest" in kind_of_interval(3)
    assert "Student" in kind_of_interval(5)


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_a_spread_of_nothing_or_of_nan_is_an_error(values):
    with pytest.raises(ValueError, match="expected finite numbers"):
        Spread.of(values)


def test_a_verdict_is_one_of_three():
    with pytest.raises(ValueError, match="expected one of holds, holds in part, not here, received 'maybe'"):
        Judgement("maybe", "")


def test_results_of_other_settings_are_not_reused(tmp_path):
    size = STUDY.size("quick")
    results.add(STUDY, size, entry(1, 1.0), fresh=True, folder=tmp_path)
    results.add(STUDY, size, entry(0, 2.0), fresh=False, folder=tmp_path)
    assert results.finished_seeds(STUDY, size, tmp_path) == {0, 1}
    stored = results.read(STUDY, size, tmp_path)
    assert [run["seed"] for run in stored["runs"]] == [0, 1]
    assert stored["settings"] == {"name": "quick", "items": 3}
    assert {"seed", "seconds", "cpu_seconds", "commit", "machine", "versions"} <= set(stored["runs"][0])

    other = replace(size, items=4)
    assert results.finished_seeds(STUDY, other, tmp_path) == set()
    results.add(STUDY, other, entry(2, 3.0), fresh=False, folder=tmp_path)
    assert results.finished_seeds(STUDY, other, tmp_path) == {2}


def test_a_fresh_run_forgets_the_old_seeds(tmp_path):
    size = STUDY.size("quick")
    results.add(STUDY, size, entry(7, 1.0), fresh=True, folder=tmp_path)
    results.add(STUDY, size, entry(0, 1.0), fresh=True, folder=tmp_path)
    assert results.finished_seeds(STUDY, size, tmp_path) == {0}


def test_results_with_nan_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.add(STUDY, STUDY.size("quick"), entry(0, float("nan")), fresh=True, folder=tmp_path)
    assert not results.file_of(STUDY, STUDY.size("quick"), tmp_path).exists()


def test_the_page_says_claim_numbers_verdict_and_repeats_byte_for_byte(tmp_path):
    for seed, value in enumerate((1.0, 2.0, 6.0)):
        results.add(STUDY, STUDY.size("quick"), entry(seed, value), fresh=False, folder=tmp_path / "results")
    first = page.build(tmp_path / "results", tmp_path / "docs", [STUDY])
    text, figure = first.read_text(), (tmp_path / "docs/evidence/no_such_file.svg").read_bytes()
    for expected in (
        "It is so.", "With 3 items.", "a\\|b",
        "**Verdict: holds.** The value is 3.00 (1.00 to 6.00), 300 % of one, 5 % off.",
        "mean of 3 seeds (least to greatest)", "![A claim](evidence/no_such_file.svg)", "](#1-a-claim)",
        "*Holds:* The value is 3.00",
    ):  # fmt: skip
        assert expected in text
    assert sum(line[:2] in ("1.", "2.", "3.", "4.", "5.") for line in text.splitlines()) == 5
    page.build(tmp_path / "results", tmp_path / "docs", [STUDY])
    assert first.read_text() == text
    assert (tmp_path / "docs/evidence/no_such_file.svg").read_bytes() == figure


def test_the_page_prefers_the_full_size(tmp_path):
    results.add(STUDY, STUDY.size("quick"), entry(0, 9.0), fresh=True, folder=tmp_path / "results")
    results.add(STUDY, STUDY.size("full"), entry(0, 0.5), fresh=True, folder=tmp_path / "results")
    text = page.build(tmp_path / "results", tmp_path / "docs", [STUDY]).read_text()
    assert "**Verdict: not here.**" in text
    assert "With 30 items." in text


def test_the_committed_page_is_that_of_the_committed_results(tmp_path):
    assert page.build(docs=tmp_path).read_text() == (page.DOCS / "evidence.md").read_text()


@needs_data
def test_a_failing_job_stops_no_other_and_names_its_cause(tmp_path, capsys):
    good = study_of("onset")
    jobs = [Job(STUDY, STUDY.size("quick"), 0), Job(good, good.size("tiny"), 0)]
    failed = run_jobs(jobs, workers=1, data=None, resume=False, folder=tmp_path)
    assert [job.study.slug for job in failed] == ["no_such_file"]
    assert "No module named 'studies.no_such_file'" in capsys.readouterr().err
    assert results.finished_seeds(good, good.size("tiny"), tmp_path) == {0}
    assert run_jobs(jobs[1:], workers=1, data=None, resume=True, folder=tmp_path) == []
    assert "1 of 1 jobs are finished already" in capsys.readouterr().err


def test_tiny_numbers_do_not_go_into_the_repository(capsys):
    with pytest.raises(SystemExit):
        main(["--tiny"])
    assert "--tiny needs --out" in capsys.readouterr().err


def test_missing_data_are_named(tmp_path):
    data.use(tmp_path)
    try:
        with pytest.raises(InputError, match=r"ecg5000.npz: expected a file .*--data DIR"):
            data.ecg()
    finally:
        data.use(None)


def test_shrinking_takes_means_and_refuses_other_sides():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    expected = np.round(images.astype(float).reshape(2, 2, 2, 2, 2, 3).mean((2, 4)))
    assert np.array_equal(data.shrink(images, 2), expected)
    with pytest.raises(InputError, match="expected a divisor of 4 and 4, received 3"):
        data.shrink(images, 3)


def test_a_subset_and_its_rest_are_the_whole():
    chosen, rest = data.subset(np.arange(10), 4, seed=1)
    assert sorted([*chosen, *rest]) == list(range(10))
    assert len(chosen) == 4
    with pytest.raises(InputError, match="expected 1 to 10 items, received 11"):
        data.subset(np.arange(10), 11, seed=0)


def test_every_study_is_in_the_file_of_its_slug_and_has_all_sizes():
    found = studies()
    assert len({study.slug for study in found}) == len(found)
    for study in found:
        assert study_of(study.slug) is study
        assert {"quick", "full", "tiny"} <= {size.name for size in study.sizes}
        for size in study.sizes:
            json.dumps(size.settings())
            assert "{" not in study.setup.format(**size.settings())
            study.rule.format(**size.settings())
            study.differences.format(**size.settings())


@needs_data
@pytest.mark.parametrize("study", studies(), ids=lambda study: study.slug)
def test_a_study_runs_judges_and_draws_at_its_tiny_size(study, tmp_path):
    result = json.loads(json.dumps(study.run(study.size("tiny"), 0), allow_nan=False))
    told = study.judge([result, result])
    assert told.summary
    assert all(len(row) == len(table.header) for table in told.tables for row in table.rows)
    study.figure([result, result], tmp_path / "one.svg")
    study.figure([result, result], tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
