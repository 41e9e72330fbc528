"""Debiased entropic transport against geomloss, which ships no generators in its package: POT's make the problems."""

import numpy as np
import ot.datasets
import pytest
import torch
from geomloss import SamplesLoss

from memfast.metrics import wasserstein


@pytest.mark.parametrize("name", ["3gauss", "3gauss2", "gaussrot"])
@pytest.mark.parametrize("blur", [1.0, 0.5])
def test_debiased_distance(name, blur):
    x, y = (np.asarray(ot.datasets.make_data_classif(name, 48, random_state=seed)[0]) for seed in (0, 1))
    y = y + 0.7
    loss = SamplesLoss("sinkhorn", p=2, blur=blur, scaling=0.97, debias=True, backend="tensorized")
    peer = 2 * float(loss(torch.from_numpy(x), torch.from_numpy(y)))
    found = wasserstein(x, y, method="sinkhorn", regularization=2 * blur**2)
    assert found.value**2 == pytest.approx(peer, rel=5e-3)
