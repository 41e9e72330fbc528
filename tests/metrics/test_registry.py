from pathlib import Path

import numpy as np
import pytest

from memfast.foundation.errors import InputError
from memfast.metrics import SharedNeighbors, kernel_distance
from memfast.metrics.base import MetricInputs
from memfast.metrics.registry import CATALOG, choose

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def section(title):
    """The table rows of a section of the page, as cells."""
    text = DOCUMENT.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]


def number(value):
    return f"{'-' * (value < 0)}inf" if np.isinf(value) else f"{value:.3g}"


def test_the_page_is_the_catalogue():
    """One row per value, in order: name, range, directions, interval and source are those of the code."""
    rows = section("Values of `memfast.evaluate`")
    expected = [
        [f"`{value.name}`", f"{number(value.low)} to {number(value.high)}", value.better, value.copying, value.interval,
         metric.source]
        for metric in CATALOG
        for value in metric.values
    ]  # fmt: skip
    assert [[*row[:5], row[6]] for row in rows] == expected
    assert all(len(row) == 7 and len(row[5]) > 10 for row in rows)


def test_the_page_has_every_function_of_tables():
    from types import FunctionType

    from memfast.metrics import tables

    functions = {name for name in tables.__all__ if isinstance(getattr(tables, name), FunctionType)}
    assert {row[0].strip("`") for row in section("Tables")} == functions - {"open_tables"}


def test_every_metric_says_what_it_is():
    for metric in CATALOG:
        assert metric.summary
        assert metric.source
        assert metric.values
        for value in metric.values:
            assert value.low < value.high
            assert {value.better, value.copying} <= {"lower", "higher", "none"}


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
