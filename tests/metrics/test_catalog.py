from pathlib import Path

import pytest

from memfast.foundation.errors import InputError
from memfast.metrics.catalog import CATALOG, choose

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_every_value_has_its_row_in_the_docs():
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for metric in CATALOG:
        for value in metric.values:
            base = value.name.removesuffix("_2") if "components" in value.name else value.name
            row = [line for line in rows if f"`{base}`" in line]
            assert len(row) == 1, value.name
            _, _, _, better, copying, _, source, _ = (cell.strip() for cell in row[0].replace("|m1-m2|", "m").replace(
                "|x-y|", "d").replace("|cos|", "c").split("|"))  # fmt: skip
            assert (better, copying) == (value.better, value.copying), value.name
            assert source


def test_names_are_unique():
    names = [value.name for row in CATALOG for value in row.values]
    assert len(set(names)) == len(names)


def test_choice():
    assert [row.name for row in choose(["mifid", "mifid", "generalization_gap"], has_test=True)] == ["mifid", "fld"]
    assert not any(row.needs_test for row in choose(None, has_test=False))
    with pytest.raises(InputError, match="names among wasserstein, sliced_wasserstein"):
        choose("fid", has_test=False)
