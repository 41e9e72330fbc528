"""Every public numeric function refuses what is not finite, masked, sparse, not real, empty or of another shape."""

import inspect
import types

import numpy as np
import pytest
import torch

from memfast import criteria, detectors, metrics
from memfast.criteria import intervals
from memfast.foundation import proportions
from memfast.foundation.errors import InputError
from memfast.metrics import tables

DRAW = np.random.default_rng(0)
ROWS = DRAW.standard_normal((40, 3))
PROBABILITIES = np.full((40, 4), 0.25)
IMAGES = DRAW.random((4, 12, 12))
M = metrics

# name -> one call per array argument: a function of that argument alone.
MATRICES = {
    "auth_pct": [lambda a: M.auth_pct(a, ROWS), lambda a: M.auth_pct(ROWS, a)],
    "c_t": [
        lambda a: M.c_t(a, ROWS, ROWS, cells=1), lambda a: M.c_t(ROWS, a, ROWS, cells=1),
        lambda a: M.c_t(ROWS, ROWS, a, cells=1),
    ],
    "cosine_penalty": [lambda a: M.cosine_penalty(a, ROWS), lambda a: M.cosine_penalty(ROWS, a)],
    "feature_likelihood": [
        lambda a: M.feature_likelihood(a, ROWS, ROWS, epochs=1),
        lambda a: M.feature_likelihood(ROWS, a, ROWS, epochs=1),
        lambda a: M.feature_likelihood(ROWS, ROWS, a, epochs=1),
    ],
    "frechet_distance": [lambda a: M.frechet_distance(a, ROWS), lambda a: M.frechet_distance(ROWS, a)],
    "frechet_infinity": [lambda a: M.frechet_infinity(a, ROWS), lambda a: M.frechet_infinity(ROWS, a)],
    "identifiability": [lambda a: M.identifiability(a, ROWS), lambda a: M.identifiability(ROWS, a)],
    "inception_score": [lambda a: M.inception_score(a, splits=1)],
    "kernel_distance": [
        lambda a: M.kernel_distance(a, ROWS, subsets=None), lambda a: M.kernel_distance(ROWS, a, subsets=None),
        lambda a: M.kernel_distance(ROWS, a, subsets=None, kernel="rbf"),
    ],
    "l2_distances": [lambda a: M.l2_distances(a, ROWS), lambda a: M.l2_distances(ROWS, a)],
    "manifold_counts": [lambda a: M.manifold_counts(a, ROWS), lambda a: M.manifold_counts(ROWS, a)],
    "mean_pair_distance": [lambda a: M.mean_pair_distance(a, ROWS), lambda a: M.mean_pair_distance(ROWS, a)],
    "memorization_scores": [
        lambda a: M.memorization_scores(a, ROWS, ROWS, epochs=1),
        lambda a: M.memorization_scores(ROWS, a, ROWS, epochs=1),
        lambda a: M.memorization_scores(ROWS, ROWS, a, epochs=1),
    ],
    "mifid": [lambda a: M.mifid(a, ROWS), lambda a: M.mifid(ROWS, a)],
    "mind": [lambda a: M.mind(a, ROWS, projections=2), lambda a: M.mind(ROWS, a, projections=2)],
    "mmd_test": [lambda a: M.mmd_test(a, ROWS, permutations=1), lambda a: M.mmd_test(ROWS, a, permutations=1)],
    "nearest_neighbor_accuracy": [
        lambda a: M.nearest_neighbor_accuracy(a, ROWS), lambda a: M.nearest_neighbor_accuracy(ROWS, a),
    ],
    "neighbor_ratios": [lambda a: M.neighbor_ratios(a, ROWS), lambda a: M.neighbor_ratios(ROWS, a)],
    "precision_recall_density_coverage": [
        lambda a: M.precision_recall_density_coverage(a, ROWS), lambda a: M.precision_recall_density_coverage(ROWS, a),
    ],
    "projected_distances": [
        lambda a: M.projected_distances(a, ROWS, components=2), lambda a: M.projected_distances(ROWS, a, components=2),
    ],
    "realism": [lambda a: M.realism(a, ROWS), lambda a: M.realism(ROWS, a)],
    "structural_similarity": [
        lambda a: M.structural_similarity(a, IMAGES), lambda a: M.structural_similarity(IMAGES, a),
    ],
    "vendi": [lambda a: M.vendi(a)],
    "vendi_per_class": [lambda a: M.vendi_per_class(a, np.zeros(40, int))],
    "wasserstein": [
        lambda a: M.wasserstein(a, ROWS), lambda a: M.wasserstein(ROWS, a),
        lambda a: M.wasserstein(a, ROWS, method="sliced", projections=2),
    ],
    "wasserstein_per_dimension": [
        lambda a: M.wasserstein_per_dimension(a, ROWS), lambda a: M.wasserstein_per_dimension(ROWS, a),
    ],
    "Moments.update": [lambda a: M.Moments().update(a)],
    "PrincipalComponents.fit": [lambda a: M.PrincipalComponents.fit(a, 1)],
    "PrincipalComponents.transform": [lambda a: M.PrincipalComponents.fit(ROWS, 1).transform(a)],
}  # fmt: skip
VECTORS = {
    "bootstrap_mean": [lambda a: M.bootstrap_mean(a)],
    "share_interval": [lambda a: M.share_interval(a)],
    "copying_z": [lambda a: M.copying_z(a, ROWS[:, 0]), lambda a: M.copying_z(ROWS[:, 0], a)],
    "jensen_shannon": [lambda a: M.jensen_shannon(a, ROWS[:, 0]), lambda a: M.jensen_shannon(ROWS[:, 0], a)],
    "closer_than": [
        lambda a: criteria.closer_than(a, ROWS[:, 0], permutations=9),
        lambda a: criteria.closer_than(ROWS[:, 0], a, permutations=9),
    ],
    "roc": [lambda a: detectors.roc(a, np.arange(40) < 20, resamples=1)],
}  # fmt: skip
# What takes no array of numbers: counts, moments and shapes have tests of their own.
OTHERS = {"estimate_cost", "frechet_from_moments"}
GOOD = {
    "inception_score": PROBABILITIES, "structural_similarity": IMAGES,
    "share_interval": np.arange(40) < 20, **dict.fromkeys(set(VECTORS) - {"share_interval"}, ROWS[:, 0]),
}  # fmt: skip


def calls(table):
    return [pytest.param(name, call, id=f"{name}-{i}") for name, all_ in table.items() for i, call in enumerate(all_)]


def changed(good, value):
    bad = np.array(good, np.float64)
    bad.flat[1] = value
    return bad


BAD = {
    "NaN": lambda good: changed(good, np.nan),
    "infinity": lambda good: changed(good, np.inf),
    "minus infinity": lambda good: changed(good, -np.inf),
    "mask": lambda good: np.ma.masked_array(good, mask=np.zeros(np.shape(good), bool)),
    "masked": lambda good: np.ma.masked_array(good, mask=np.asarray(good) == np.asarray(good).flat[0]),
    "list with a mask": lambda good: [np.ma.masked_array(row) for row in good],
    "sparse": lambda good: torch.from_numpy(np.array(good, np.float64)).to_sparse(),
    "meta": lambda good: torch.empty(np.shape(good), device="meta"),
    "complex": lambda good: np.array(good) + 1j,
    "text": lambda good: np.array(good).astype(str),
    "objects": lambda good: np.array([None] * len(good)),
    "a number": lambda good: 3.0,
    "nothing": lambda good: np.array(good)[:0],
    "None": lambda good: None,
    "ragged": lambda good: [[1.0, 2.0], [3.0]],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize(("name", "call"), calls(MATRICES | VECTORS))
def test_bad_arrays_are_refused_by_name(name, call, bad, request):
    if name == "roc" and "infinity" in request.node.name:
        pytest.skip("a ROC looks at the order of scores alone: infinity is above all others")
    with pytest.raises(InputError):
        call(bad(GOOD.get(name, ROWS)))


@pytest.mark.parametrize(("name", "call"), calls(MATRICES | VECTORS))
def test_good_arrays_are_taken_as_arrays_tensors_and_lists(name, call):
    good = GOOD.get(name, ROWS)
    call(good)
    call(torch.from_numpy(np.array(good)))
    call(np.array(good).tolist())


@pytest.mark.parametrize(("name", "call"), calls(MATRICES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_narrow_floats_are_taken_by_their_values(name, call, dtype):
    good = torch.from_numpy(np.array(GOOD.get(name, ROWS))).to(dtype)
    call(good)


@pytest.mark.parametrize(("name", "call"), calls(VECTORS))
def test_several_numbers_per_item_are_refused(name, call):
    good = np.array(GOOD.get(name, ROWS))
    with pytest.raises(InputError):
        call(np.stack([good, good], axis=1))


@pytest.mark.parametrize(("name", "call"), calls({n: c for n, c in MATRICES.items() if len(c) > 1 and n not in GOOD}))
def test_another_width_is_refused(name, call):
    with pytest.raises(InputError):
        call(ROWS[:, :2])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e160, 1e200, 1e300])
@pytest.mark.parametrize(("name", "call"), calls({n: c for n, c in MATRICES.items() if n not in GOOD}))
def test_what_overflows_is_refused_or_right(name, call, size):
    """No infinity, no NaN, no 0 for want of digits, no raw error, no warning."""
    try:
        found = call(size * ROWS)
    except InputError:
        return
    assert all(np.isfinite(value).all() for value in _numbers(found)), name


def _numbers(found):
    if isinstance(found, float | int | np.number):
        return [found]
    if isinstance(found, np.ndarray):
        return [found] if found.dtype.kind in "fiu" else []
    if isinstance(found, dict):
        return [one for value in found.values() for one in _numbers(value)]
    if isinstance(found, tuple):
        return [one for value in found for one in _numbers(value)]
    if isinstance(found, M.WassersteinResult):
        return [found.value]
    if isinstance(found, M.PrincipalComponents):
        return [found.components, found.mean]
    return []


COUNTS = {
    "closer_than permutations": lambda n: criteria.closer_than([1.0], [2.0], permutations=n),
    "bootstrap resamples": lambda n: criteria.bootstrap(1, 10, resamples=n),
    "proportion resamples": lambda n: proportions.Proportion.of(1, 10, resamples=n),
    "share resamples": lambda n: criteria.share(1, 10, resamples=n),
    "bootstrap_mean resamples": lambda n: M.bootstrap_mean([1.0, 2.0], resamples=n),
    "mmd_test permutations": lambda n: M.mmd_test(ROWS, ROWS, permutations=n),
    "nearest_neighbor_accuracy permutations": lambda n: M.nearest_neighbor_accuracy(ROWS, ROWS, permutations=n),
    "roc resamples": lambda n: detectors.roc([0.0, 1.0], [False, True], resamples=n),
    "kernel_distance subsets": lambda n: M.kernel_distance(ROWS, ROWS, subsets=n, subset_size=5),
    "frechet_infinity points": lambda n: M.frechet_infinity(ROWS, ROWS, points=n),
    "wilson total": lambda n: criteria.wilson(0, n),
    "clopper_pearson total": lambda n: intervals.clopper_pearson(0, n),
    "difference total": lambda n: criteria.difference(0, n, 0, 5),
    "jensen_shannon bins": lambda n: M.jensen_shannon([0.0], [1.0], bins=n),
    "mind projections": lambda n: M.mind(ROWS, ROWS, projections=n),
    "memorization_scores epochs": lambda n: M.memorization_scores(ROWS, ROWS, ROWS, epochs=n),
}


@pytest.mark.parametrize("count", [-1, 0, 10.0, "3", True, None, float("nan")], ids=str)
@pytest.mark.parametrize("call", COUNTS.values(), ids=COUNTS.keys())
def test_counts_are_whole_numbers_of_at_least_one(call, count):
    if count is None and "kernel_distance" in inspect.getsource(call).split("lambda n:")[1][:40]:
        pytest.skip("None means all pairs there")
    with pytest.raises(InputError):
        call(count)


def test_a_total_that_is_no_whole_number_is_said_to_be_none():
    with pytest.raises(InputError, match=r"total: expected a whole number, at least one tested sample, received 10\.0"):
        criteria.wilson(3, 10.0)


def test_no_public_function_is_left_out():
    """A new function of the catalogue is in the table above, or named as one that takes no array."""
    functions = {name for name in metrics.__all__ if isinstance(getattr(metrics, name), types.FunctionType)}
    assert functions == {name for name in MATRICES | VECTORS if "." not in name} - {"closer_than", "roc"} | OTHERS
    names = {name for name in tables.__all__ if isinstance(getattr(tables, name), types.FunctionType)}
    assert names == {
        "dcr_baseline_protection", "dcr_overfitting_protection", "distance_to_closest_record", "gower_distance",
        "inference_risk", "linkability_risk", "open_tables", "singling_out_risk", "table_identifiability",
    }, "functions of tables are tested in test_tables.py: add a row there and here"  # fmt: skip
