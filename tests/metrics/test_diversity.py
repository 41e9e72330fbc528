import numpy as np
import pytest

from memfast.foundation.errors import InputError
from memfast.metrics import vendi, vendi_per_class


def test_equal_and_orthogonal_rows():
    assert vendi(np.ones((7, 3))) == pytest.approx(1)
    assert vendi(np.eye(6) * np.arange(1, 7)) == pytest.approx(6)
    assert vendi(np.repeat(np.eye(4), 5, axis=0)) == pytest.approx(4)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
@pytest.mark.parametrize("order", [0.5, 1, 2, np.inf])
def test_equals_its_definition(shape, order):
    rows = np.random.default_rng(0).standard_normal(shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(rows @ rows.T / len(rows))
    values = values[values > 1e-12]
    if order == 1:
        expected = np.exp(-(values * np.log(values)).sum())
    else:
        expected = 1 / values.max() if np.isinf(order) else (values**order).sum() ** (1 / (1 - order))
    assert vendi(rows, order=order) == pytest.approx(expected, rel=1e-8)


def test_per_class():
    rows, labels = np.concatenate([np.eye(3), np.ones((2, 3))]), [0, 0, 0, 7, 7]
    assert vendi_per_class(rows, labels) == pytest.approx({0: 3, 7: 1})


def test_bad_input():
    with pytest.raises(InputError, match="zeros in row 1"):
        vendi([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(InputError, match=r"labels: expected one label per row, shape \(3,\), received shape \(2,\)"):
        vendi_per_class(np.eye(3), [0, 1])
    with pytest.raises(InputError, match="order"):
        vendi(np.eye(2), order=0)


def test_rounding_errors_of_eigenvalues_are_no_samples():
    directions = np.random.default_rng(0).standard_normal((1, 300))
    assert vendi(np.repeat(directions, 200, axis=0) * np.arange(1, 201)[:, None], order=0.1) == pytest.approx(
        1, rel=1e-9
    )


def test_weights_kernels_and_orders_are_those_of_vendi_score():
    peer = pytest.importorskip("vendi_score.vendi", reason="vendi-score is not installed")
    draw = np.random.default_rng(5)
    rows, weights = draw.standard_normal((20, 4)), draw.random(20)
    weights /= weights.sum()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = unit @ unit.T
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    width = np.median(distances[np.triu_indices(20, 1)])
    smooth = np.exp(-(distances**2) / (2 * width**2))
    for order in (0.5, 1, 2):
        options = {"order": order, "weights": weights}
        assert vendi(rows, **options) == pytest.approx(peer.score_K(similar, q=order, p=weights), rel=1e-6)
        assert vendi(smooth, kernel="precomputed", **options) == pytest.approx(
            peer.score_K(smooth, q=order, p=weights), rel=1e-6
        )
        assert vendi(rows, kernel="rbf", **options) == pytest.approx(peer.score_K(smooth, q=order, p=weights), rel=1e-6)
    assert vendi(rows, kernel=lambda a, b: a @ b.T / np.outer(*(np.linalg.norm(s, axis=1) for s in (a, b)))) == (
        pytest.approx(peer.score_X(rows), rel=1e-9)
    )
    wide = draw.standard_normal((6, 30))
    assert vendi(wide, weights=[1, 1, 1, 0, 0, 0]) == pytest.approx(vendi(wide[:3]), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_size_of_rows_does_not_matter(scale):
    rows = np.random.default_rng(6).standard_normal((9, 4))
    assert vendi(scale * rows) == pytest.approx(vendi(rows), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kernel": "linear"}, "kernel: expected one of cosine, rbf, precomputed or a function"),
        ({"kernel": "precomputed"}, r"kernel: expected similarities \[4, 4\]"),
        ({"kernel": lambda a, b: a @ b.T}, "a symmetric similarity, 1 of each sample with itself"),
        ({"weights": [1, 2]}, "one weight per row"),
        ({"weights": [1, -1, 1, 1]}, "finite weights of at least 0"),
        ({"kernel": "rbf", "bandwidth": 0}, "bandwidth"),
    ],
)
def test_bad_options_are_named(options, text):
    with pytest.raises(InputError, match=text):
        vendi(np.random.default_rng(0).standard_normal((4, 3)), **options)
