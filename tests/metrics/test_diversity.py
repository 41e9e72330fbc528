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
