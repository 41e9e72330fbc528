"""Study 7: its data are what it says, its counts are those of a brute-force search, its verdict follows the rule."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from studies import data, large_audit
from studies.large_audit import AuditSize
from studies.large_data import BLOCK, augmented, planted, ways, write_training
from studies.large_judgement import CRITERIA, judge, near, verdict

needs_data = pytest.mark.skipif(not data.present(), reason="the data sets are not in ../shared/data")
BASE = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
WAYS = ways()


def result(recalls=(100, 100, 100), alarms=(0, 0, 0), grown=500.0):
    """An audit with one nearly verbatim way of copying and a far one that nobody finds."""
    numbers = dict(zip(CRITERIA, recalls, strict=True))
    cost = {"seconds": 2.0, "cpu_seconds": 1.0, "grown_mib": grown}
    return {
        "ways": [
            {"label": "exact", "rms": 0.01, "total": 100, "nearest": 100} | numbers,
            {"label": "flip", "rms": 0.2, "total": 100, "nearest": 5} | dict.fromkeys(CRITERIA, 0),
        ],
        "honest": dict(zip(CRITERIA, alarms, strict=True)) | {"total": 2000},
        "held_out": dict.fromkeys(CRITERIA, 0.0),
        "training": 1000, "generated": 2200, "threads": 1, "memory_mib": 512, "training_mib": 3.0,
        "exact": cost | {"operations": 10**12},
        "approximate": [cost | {"probes": 4, "agrees": 0.8, "nearest": [90, 3]}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "holds"),
        ({"recalls": (98, 100, 100)}, "holds in part"),
        ({"alarms": (0, 3, 0)}, "holds in part"),
        ({"grown": 641.0}, "holds in part"),
        ({"recalls": (98, 98, 98)}, "not here"),
        ({"recalls": (98, 100, 98), "alarms": (0, 3, 0)}, "not here"),
    ],
)
def test_the_verdict_follows_the_rule(changes, expected):
    assert verdict([result(**changes)] * 2) == expected


def test_seeds_are_counted_together():
    assert verdict([result(recalls=(98, 100, 100)), result()]) == "holds"
    found = judge([result(alarms=(1, 0, 0)), result()])
    assert "finds 100.0% / 100.0% / 100.0%" in found.summary
    assert "1 of 4,000 / 0 of 4,000 / 0 of 4,000" in found.summary
    assert found.tables[0].rows[1] == ("flip", "0.200", "0%", "0%", "0%", "5%", "3%")
    assert found.tables[2].rows[0][1:] == ("2 (2 to 2)", "1 (1 to 1)", "500 (500 to 500)", "1000 (1000 to 1000)",
                                           "100 % (by definition)")  # fmt: skip
    assert near([result()]) == [0]


def test_a_training_set_is_reproducible_and_its_last_images_repeat_others(tmp_path):
    repeated = write_training(tmp_path / "a.npy", BASE, 90, 7, seed=3)
    write_training(tmp_path / "b.npy", BASE, 90, 7, seed=3)
    write_training(tmp_path / "c.npy", BASE, 90, 7, seed=4)
    first, again, other = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first[83:], first[repeated])
    assert len(np.unique(first.reshape(90, -1), axis=0)) == 83


def test_a_block_of_images_does_not_depend_on_how_many_follow():
    long, short = (np.concatenate(list(augmented(BASE, count, seed=1))) for count in (BLOCK + 3, 63))
    assert len(long) == BLOCK + 3
    assert np.array_equal(long[:63], short)
    assert not np.array_equal(long[BLOCK:], long[:3])


def test_planted_copies_are_those_of_their_originals(tmp_path):
    path = tmp_path / "training.npy"
    repeated = write_training(path, BASE, 200, 5, seed=0)
    training = np.load(path)
    copies, originals, changes = planted(path, repeated, 4, seed=0)
    assert copies.shape == (4 * len(WAYS), 32, 32, 3)
    assert len(np.unique(originals)) == len(originals), "every copy is of another image"
    by_label = {way.label: slice(4 * number, 4 * number + 4) for number, way in enumerate(WAYS)}
    assert len(by_label) == len(WAYS)
    exact, flip, twice = (by_label[name] for name in ("exact", "flip", "exact, original twice"))
    assert np.array_equal(copies[exact], training[originals[exact]])
    assert np.array_equal(copies[flip], training[originals[flip]][:, :, ::-1])
    assert set(originals[twice]) <= set(repeated)
    assert not set(np.delete(originals, twice)) & set(repeated)
    difference = (copies / 255.0 - training[originals] / 255.0).reshape(len(WAYS), 4, -1)
    assert changes == pytest.approx(np.sqrt((difference**2).mean(axis=2)).mean(axis=1))
    order = [changes[[way.label for way in WAYS].index(f"JPEG quality {quality}")] for quality in (90, 50, 20)]
    assert 0 < order[0] < order[1] < order[2]


@needs_data
def test_counts_are_those_of_a_brute_force_search():
    size = AuditSize(
        "test", training=400, duplicates=8, generated=180, each=3, held_out=40, neighbours=50, memory_mib=64, threads=1,
        index="IVF2,Flat", index_rows=100, probes=(2,),
    )  # fmt: skip
    found, searched = _run_and_search(size)
    squared, first, originals = searched
    ratio = np.sqrt(squared[:, 0] / squared[:, 1]) < 1 / 3
    absolute = np.sqrt(squared[:, 0] / 3072) / 255 <= 0.05
    calibrated = np.sqrt(squared[:, 0]) < 0.5 * np.sqrt(squared[:, :50]).mean(axis=1)
    right = first[: len(originals)] == originals
    for number, row in enumerate(found["ways"]):
        part = slice(3 * number, 3 * number + 3)
        expected = [(one[: len(originals)] & right)[part].sum() for one in (ratio, calibrated, absolute)]
        assert [row[name] for name in CRITERIA] == expected, row["label"]
        assert row["nearest"] == right[part].sum()
    honest = [one[len(originals) :].sum() for one in (ratio, calibrated, absolute)]
    assert [found["honest"][name] for name in CRITERIA] == honest
    assert found["ways"][1]["nn_ratio"] == 3, "a duplicate of the original does not hide the copy"
    assert found["approximate"][0]["agrees"] == 1.0, "an index of which every list is visited finds everything"
    assert found["approximate"][0]["nearest"] == [row["nearest"] for row in found["ways"]]


def _run_and_search(size):
    """The study's result, and (squared distances, nearest, originals) by scipy in the set without duplicates."""
    kept = {}
    audit = large_audit.memfast.audit

    def listen(generated, training, *arguments, **options):
        kept.update(generated=generated.copy(), training=np.array(training))
        return audit(generated, training, *arguments, **options)

    def watch(*arguments):
        kept["planted"] = planted(*arguments)
        return kept["planted"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_audit.memfast, "audit", listen)
        patch.setattr(large_audit, "planted", watch)
        found = large_audit.run(size, seed=0)
    distinct = kept["training"][: size.training - size.duplicates].reshape(size.training - size.duplicates, -1)
    squared = cdist(kept["generated"].reshape(size.generated, -1).astype(float), distinct.astype(float), "sqeuclidean")
    return found, (np.sort(squared, axis=1), squared.argmin(axis=1), kept["planted"][1])


def test_every_text_of_the_study_is_filled_in():
    for size in large_audit.STUDY.sizes:
        settings = size.settings()
        assert f"{size.training:,} images" in large_audit.STUDY.setup.format(**settings)
        assert "{" not in large_audit.STUDY.differences.format(**settings)
        assert size.each * len(WAYS) < size.generated
        assert size.each <= size.duplicates
