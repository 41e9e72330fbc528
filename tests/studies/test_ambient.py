"""Study 4: the reading of its curves by hand-made ones, its measurements against scipy, and one tiny run."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from memfast.metrics import frechet_distance
from studies import ambient, data
from studies.ambient_judgement import (
    MAIN,
    copies_at,
    copying,
    equal_quality,
    judge,
    reductions,
    verdict,
)
from studies.ambient_runs import Arm, Measure

CRITERIA = ("nn_ratio", "calibrated", "absolute", "authenticity")
needs_data = pytest.mark.skipif(not data.present(), reason="the data sets are not in ../shared/data")


def curve(*points):
    """Points (Frechet distance, share of copies), the same share by every criterion."""
    return [
        {"step": step, "frechet": frechet, "copies": dict.fromkeys(CRITERIA, share)} | {"nearest_rms": 0.1}
        for step, (frechet, share) in enumerate(points)
    ]


def result(plain, others, count=60, reading=MAIN):
    """A run's result with curves by sigma_n."""
    curves = [{"reading": reading, "count": count, "noise": None, "curve": plain}]
    curves += [{"reading": reading, "count": count, "noise": noise, "curve": one} for noise, one in others.items()]
    return {"curves": curves, "held_out": [{"count": count, **curve((0.3, 0.0))[0]}]}


PLAIN = ((2.0, 0.0), (1.0, 0.4), (0.8, 0.6))


def test_copies_are_read_where_a_curve_first_reaches_a_quality():
    points = curve((3.0, 0.1), (2.0, 0.3), (2.5, 0.9), (1.0, 0.7))
    assert copies_at(points, 2.5) == pytest.approx(0.2)
    assert copies_at(points, 2.0) == pytest.approx(0.3)
    assert copies_at(points, 5.0) == 0.1
    with pytest.raises(ValueError, match=r"does not reach 0\.5"):
        copies_at(points, 0.5)


def test_the_quality_is_the_best_that_both_reach_and_plain_training_may_stop_early():
    plain, ambient_curve = curve(*PLAIN), curve((2.0, 0.0), (1.0, 0.1))
    assert equal_quality(plain, ambient_curve) == 1.0
    found = reductions([result(plain, {0.2: ambient_curve})], MAIN, 60, 0.2)
    assert found == pytest.approx([0.75])
    # Better at the end, but no better than plain training that was stopped there.
    stopped = curve((2.0, 0.0), (1.0, 0.4))
    assert reductions([result(plain, {0.2: stopped})], MAIN, 60, 0.2) == pytest.approx([0.0])


def test_nothing_is_said_where_plain_training_copies_nothing():
    clean = curve((2.0, 0.0), (1.0, 0.0))
    runs = [result(clean, {0.2: clean})] * 3
    assert reductions(runs, MAIN, 60, 0.2) is None
    assert verdict(runs) == "not here"
    assert not copying(runs, MAIN)
    assert copying([result(curve(*PLAIN), {})], MAIN)
    assert "hardly copies" in judge(runs, {}).summary


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.01, 0.02, 0.03), "holds"),
        ((0.2, 0.1, 0.3), "holds in part"),
        ((0.2, 0.1, 0.41), "not here"),
        ((0.5, 0.6, 0.7), "not here"),
    ],
)
def test_the_verdict_follows_the_rule(shares, expected):
    runs = [result(curve(*PLAIN), {0.2: curve((2.0, 0.0), (1.0, share))}) for share in shares]
    assert verdict(runs) == expected


def test_one_good_sigma_of_three_is_no_part_of_the_claim():
    def ambient_curve(share):
        return curve((2.0, 0.0), (1.0, share))

    run = result(curve(*PLAIN), {0.2: ambient_curve(0.2), 0.3: ambient_curve(0.5), 0.4: ambient_curve(0.5)})
    assert verdict([run] * 3) == "not here"


def test_a_result_is_written_in_signed_changes():
    runs = [result(curve(*PLAIN), {0.2: curve((2.0, 0.0), (1.0, share))}) for share in (0.1, 0.2, 0.3)]
    runs = [{**run, "curves": run["curves"] + [one | {"reading": "other"} for one in run["curves"]]} for run in runs]
    found = judge(runs, {"other": "Another way"})
    assert (
        "at equal quality they are 40.0%, and 20.0% by Ambient with sigma_n 0.2 (the best here): -50% (-75% to -25%), "
        "by the calibrated criterion -50% (-75% to -25%) (it ends at a Frechet distance of 1.00 (1.00 to 1.00), plain "
        "training at 0.80 (0.80 to 0.80))"
    ) in found.summary
    assert "by -50% with 60 images (best of 1 sigma_n: 0.2; by the calibrated criterion -50%)" in found.headline
    assert found.tables[0].rows[0][5] == "-50% (-75% to -25%)"
    assert found.readings == [
        "Another way: 60 images, sigma_n 0.2: in the end 20.0 % (10.0 to 30.0) copies against 60.0 % (60.0 to 60.0); "
        "at equal quality -50% (-75% to -25%)."
    ]
    for run in runs:
        run["curves"] = [*run["curves"][:2], *([one | {"curve": worse(one["curve"])} for one in run["curves"][2:]])]
    (told,) = judge(runs, {"other": "Another way"}).readings
    assert told.endswith(
        "ends here at a Frechet distance of 9.00 (9.00 to 9.00), in the tables above at 0.80 (0.80 to 0.80)."
    )


def worse(curve):
    return [point | {"frechet": 9.0} for point in curve]


def test_the_two_forms_hide_the_same_share_of_the_signal():
    for noise in (0.2, 0.5):
        for form, prediction in (("vp", "sample"), ("edm", "edm")):
            alpha, sigma = Arm(form, prediction, noise).objective().ambient_level
            assert sigma / alpha == pytest.approx(noise)
    assert Arm("vp", "sample").objective().ambient_level is None


def test_measurements_agree_with_scipy():
    draw = np.random.default_rng(0)
    training, reference, samples = (draw.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8) for n in (30, 60, 41))
    samples[:7] = training[:7]
    measure = Measure(training, reference, features="pca", components=5)
    found = measure(samples)
    distances = np.sort(cdist(samples.reshape(41, -1) / 255, training.reshape(30, -1) / 255), axis=1)
    assert found["copies"]["nn_ratio"] == (distances[:, 0] / distances[:, 1] < 1 / 3).mean() >= 7 / 41
    assert found["copies"]["calibrated"] == (distances[:, 0] < 0.5 * distances.mean(axis=1)).mean()
    assert found["copies"]["absolute"] == (distances[:, 0] / 4 <= 0.05).mean()
    assert found["nearest_rms"] == pytest.approx(distances[:, 0].mean() / 4)
    centred = reference.reshape(60, -1) / 255 - reference.reshape(60, -1).mean(axis=0) / 255
    axes = np.linalg.svd(centred, full_matrices=False)[2][:5].T
    expected = frechet_distance(*(one.reshape(len(one), -1) / 255 @ axes for one in (samples, reference)))
    assert found["frechet"] == pytest.approx(expected, rel=1e-6)


@needs_data
def test_a_run_trains_every_arm_once(monkeypatch):
    trained = []

    def note(arm, measure, *, steps, **settings):
        trained.append((arm, len(measure.training), steps))
        return curve((1.0, len(trained)))

    monkeypatch.setattr(ambient, "run_arm", note)
    found = ambient.run(ambient.STUDY.size("tiny"), seed=1)
    arms = [(one["reading"], one["count"], one["noise"]) for one in found["curves"]]
    assert len(arms) == len(set(arms)) == 2 * 3 + 2 + 2
    assert len(trained) == len(set(trained)) == len(arms) - 1
    plain = [one["curve"] for one in found["curves"] if one["noise"] is None and one["count"] == 20]
    assert plain[0] == plain[1] != plain[2], "the compensated reading shares plain training, the EDM form has its own"
    assert [one["count"] for one in found["held_out"]] == [20, 40]


@pytest.mark.parametrize(("name", "side"), [("quick", 28), ("full", 32)])
def test_the_main_reading_has_the_papers_numbers_of_images_and_the_sweep_of_noises(name, side):
    size = ambient.STUDY.size(name)
    main = size.readings[0]
    assert (main.name, main.counts, main.noises) == (MAIN, (300, 1000), (0.2, 0.3, 0.4, 0.5))
    assert size.side == side


def test_every_text_of_the_study_is_filled_in():
    for size in ambient.STUDY.sizes:
        settings = size.settings()
        assert size.source in ambient.STUDY.setup.format(**settings)
        assert str(size.side) in ambient.STUDY.differences.format(**settings)
        assert "{" not in ambient.STUDY.rule.format(**settings)
