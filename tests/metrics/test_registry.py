from pathlib import Path

import numpy as np
import pytest

from memfast.foundation.errors import InputError
from memfast.metrics import SharedNeighbors, kernel_distance
from memfast.metrics.base import MetricInputs
from memfast.metrics.registry import CATALOG, choose

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
    assert len(choose(None, has_test=False)) == len(CATALOG)
    assert [row.name for row in choose([CATALOG[0], "vendi"], has_test=False)] == [CATALOG[0].name, "vendi"]
    with pytest.raises(InputError, match="metrics: expected names among wasserstein"):
        choose("beauty", has_test=False)
    with pytest.raises(InputError, match=r"received 'frechet_distanc'. Did you mean 'frechet_distance'\?"):
        choose("frechet_distanc", has_test=False)


def test_the_interval_of_the_kernel_distance_covers_the_true_one():
    generator = np.random.default_rng(0)
    metric = next(row for row in CATALOG if row.name == "kernel")
    large = [generator.standard_normal((3000, 2)) + shift for shift in (0.5, 0)]
    truth = kernel_distance(*large, subsets=None).value
    covered = 0
    for _ in range(40):
        generated, training = (generator.standard_normal((80, 2)) + shift for shift in (0.5, 0))
        found = metric.compute(MetricInputs(generated, training, None, SharedNeighbors({})))["kernel_distance"]
        covered += found.interval.low <= truth <= found.interval.high
    assert covered >= 34, "95 % of 40 are 38; below 34 has a chance of one in a hundred"


def test_training_rows_on_a_line_have_no_second_component():
    generator = np.random.default_rng(0)
    generated, training = generator.standard_normal((30, 3)), generator.standard_normal((40, 1)) * np.ones(3)
    metric = next(row for row in CATALOG if row.name == "projected")
    found = metric.compute(MetricInputs(generated, training, None, SharedNeighbors({})))
    assert sorted(found) == ["jensen_shannon_components", "wasserstein_1_components"]
    assert found["wasserstein_1_components"].details["components"] == 1


def test_the_line_of_frechet_infinity_gives_no_interval():
    generator = np.random.default_rng(0)
    metric = next(row for row in CATALOG if row.name == "frechet_infinity")
    sets = MetricInputs(
        generator.standard_normal((60, 3)), generator.standard_normal((50, 3)), None, SharedNeighbors({})
    )
    found = metric.compute(sets)["frechet_infinity"]
    assert found.interval is None
    assert found.details["standard_error_of_fit"] > 0
