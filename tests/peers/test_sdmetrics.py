"""SDMetrics' own tables and scores against ours. Not installed by `make test`: see requirements.txt."""

import warnings

import numpy as np
import pandas as pd
import pytest

from memfast.metrics.tables import dcr_baseline_protection, dcr_overfitting_protection, distance_to_closest_record

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sdmetrics = pytest.importorskip("sdmetrics", reason="sdmetrics pins pandas below 3: run `make peers`")
    privacy = pytest.importorskip("sdmetrics.single_table.privacy", reason="run `make peers`")
    dcr_utils = pytest.importorskip("sdmetrics.single_table.privacy.dcr_utils", reason="run `make peers`")

pytestmark = pytest.mark.filterwarnings("ignore")


def table(rows, seed):
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": draw.integers(20, 80, rows).astype(float),
            "income": np.where(draw.random(rows) < 0.1, np.nan, draw.lognormal(10, 1, rows)),
            "city": draw.choice(["Rome", "Oslo", "Bonn"], rows).astype(object),
            "member": draw.random(rows) < 0.4,
        }
    )


KINDS = {"age": "numerical", "income": "numerical", "city": "categorical", "member": "boolean"}
METADATA = {"columns": {name: {"sdtype": kind} for name, kind in KINDS.items()}}


@pytest.mark.parametrize("seed", range(3))
def test_distances_to_the_closest_record(seed):
    real, synthetic = table(80, seed), table(60, seed + 10)
    synthetic.iloc[:10] = real.iloc[:10]
    expected = dcr_utils.calculate_dcr(synthetic, real, METADATA)
    np.testing.assert_allclose(distance_to_closest_record(synthetic, real), expected.astype(float), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_overfitting_protection(seed):
    training, held_out, synthetic = (table(70, seed + offset) for offset in (0, 20, 40))
    synthetic.iloc[:20] = training.iloc[:20]
    expected = privacy.DCROverfittingProtection.compute_breakdown(training, synthetic, held_out, METADATA, "t")
    found = dcr_overfitting_protection(synthetic, training, held_out)
    assert found.score == pytest.approx(expected["score"])
    assert found.closer_to_training == pytest.approx(expected["synthetic_data_percentages"]["closer_to_training"])


def test_baseline_protection():
    """Each draws random rows of its own: the synthetic median is equal, the baseline's agrees by its noise."""
    real, synthetic = table(120, 1), table(120, 2)
    expected = privacy.DCRBaselineProtection.compute_breakdown(real, synthetic, METADATA, "t")
    found = dcr_baseline_protection(synthetic, real)
    medians = expected["median_DCR_to_real_data"]
    assert found.synthetic_median == pytest.approx(medians["synthetic_data"])
    assert found.baseline_median == pytest.approx(medians["random_data_baseline"], rel=0.2)
    assert found.score == pytest.approx(expected["score"], rel=0.2)
