"""Anonymeter's linkability and inference against ours. Not installed by `make test`: see requirements.txt."""

import numpy as np
import pandas as pd
import pytest

from memfast.metrics.tables import inference_risk, linkability_risk

evaluators = pytest.importorskip("anonymeter.evaluators", reason="anonymeter pins NumPy below 2: run `make peers`")

pytestmark = pytest.mark.filterwarnings("ignore")


def table(rows, seed):
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": draw.normal(size=rows), "b": draw.normal(size=rows), "c": draw.normal(size=rows),
            "d": draw.choice(["x", "y", "z"], rows).astype(object),
        }
    )  # fmt: skip


TRAINING, CONTROL = table(120, 0), table(120, 1)
COPIED = table(120, 2)
COPIED.iloc[:80] = TRAINING.iloc[:80]


def test_linkability():
    """All rows are attacked, so both count the same links: only the guesses are random."""
    parts = (["a", "b"], ["c", "d"])
    peer = evaluators.LinkabilityEvaluator(
        ori=TRAINING, syn=COPIED, control=CONTROL, n_attacks=120, aux_cols=parts, n_neighbors=1
    )
    peer.evaluate(n_jobs=1)
    expected = peer.results()
    found = linkability_risk(COPIED, TRAINING, CONTROL, first=parts[0], second=parts[1], attacks=120)
    assert sum(found.attack.wilson) / 2 == pytest.approx(expected.attack_rate.value, abs=0.03)
    assert sum(found.control.wilson) / 2 == pytest.approx(expected.control_rate.value, abs=0.03)
    assert found.risk == pytest.approx(peer.risk().value, abs=0.04)
    assert found.interval == pytest.approx(peer.risk().ci, abs=0.05)


def test_inference():
    peer = evaluators.InferenceEvaluator(
        ori=TRAINING, syn=COPIED, control=CONTROL, n_attacks=120, aux_cols=["a", "b", "c"], secret="d"
    )
    peer.evaluate(n_jobs=1)
    found = inference_risk(COPIED, TRAINING, CONTROL, known=["a", "b", "c"], secret="d", attacks=120)
    assert sum(found.attack.wilson) / 2 == pytest.approx(peer.results().attack_rate.value, abs=0.04)
    assert found.risk == pytest.approx(peer.risk().value, abs=0.06)
