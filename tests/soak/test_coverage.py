"""The measured coverage in docs/metrics.md, measured again. Prints the rows of its table."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from coverage import CASES, measured  # noqa: E402 - the cases stand beside the tests of the metrics

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
DRAWS = 400
# Three standard deviations of a share of 95 % in 400 draws.
NOISE = 0.033


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}, {case.situation}")
def test_the_coverage_is_the_one_in_the_docs(case):
    found = measured(case, DRAWS, seed=1)
    row = f"| `{case.name}` | {case.situation} | {100 * found:.0f} % |"
    print(row)
    stated = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith(row[: row.rindex("|", 0, -2)])]
    assert stated, f"add this row to docs/metrics.md: {row}"
    share = float(stated[0].split("|")[3].strip().removesuffix("%")) / 100
    spread = max(NOISE, 3 * (share * (1 - share) / DRAWS) ** 0.5 + 0.01)
    assert found == pytest.approx(share, abs=1.5 * spread)
