"""Nearest training item: the plainest detector, and the only one that needs the training data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from memfast.detectors.base import Detector, Difference, StepLike, nothing_seen
from memfast.foundation.errors import InputError


class NearestDistance(Detector):
    """``-d1``: minus the distance of the finished sample to the nearest training item; at most 0.

    The sign is flipped so that higher is more memorized. In the units of the distances that it is given.

    Source: Carlini et al. 2023 (arXiv 2301.13188), the (l, delta) definition.
    """

    name = "nearest_distance"
    source = "Carlini et al. 2023"
    needs_distances = True
    columns = 1
    needs_branches = False
    _squared: np.ndarray | None

    def step(
        self, step: StepLike, *, difference: Difference | None = None, attention: Sequence[Tensor] | None = None
    ) -> None:
        """States are not used."""

    def distances(self, squared_distances: Any) -> None:
        """Squared distances ``[B, k]``, ascending, as ``memfast.knn`` gives them."""
        found = np.asarray(squared_distances)
        if found.ndim != 2 or len(found) != self.count or found.shape[1] < self.columns:
            raise InputError(
                self.name, expected=f"squared distances [{self.count}, {self.columns} or more]",
                received=f"shape {list(found.shape)}",
            )  # fmt: skip
        self._squared = found[:, : self.columns].astype(np.float64)

    def scores(self) -> np.ndarray:
        """``-d1``."""
        return -np.sqrt(self._given()[:, 0])

    def _given(self) -> np.ndarray:
        if self._squared is None:
            raise nothing_seen(self.name)
        return self._squared

    def _reset(self) -> None:
        self._squared = None


class NearestRatio(NearestDistance):
    """``-d1 / d2``: minus the ratio of the distances to the nearest and second nearest training item; in [-1, 0].

    The sign is flipped so that higher is more memorized. Repeated training items make d1 = d2 and hide a copy (at
    distance 0 of both the score is -1): collapse duplicates first, as ``memfast.audit`` does.

    Source: Yoon et al. 2023; Gu et al. 2023 (arXiv 2310.02664); Bonnaire et al. 2025 (arXiv 2505.17638), eq. 6.
    """

    name = "nearest_ratio"
    source = "Yoon et al. 2023; Gu et al. 2023"
    columns = 2

    def scores(self) -> np.ndarray:
        """``-d1 / d2``."""
        first, second = self._given().T
        return -np.sqrt(np.divide(first, second, out=np.ones_like(first), where=second > 0))
