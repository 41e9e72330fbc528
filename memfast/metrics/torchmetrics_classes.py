"""The metrics as torchmetrics classes, for other people's training loops.

Each takes features ``[B, D]`` (or whatever ``extractor`` turns into them) by ``update(features, real=...)`` and adds up
over batches and ranks: moments by merging, the others by gathering their features. Imported only by name, since
torchmetrics is optional.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from memfast.foundation.arrays import plain_array
from memfast.foundation.errors import InputError
from memfast.foundation.packages import optional_package
from memfast.metrics.copying import COSINE_EPSILON, auth_pct, mifid
from memfast.metrics.frechet import frechet_from_moments
from memfast.metrics.kernel import SUBSET_SIZE, SUBSETS, kernel_distance
from memfast.metrics.manifold import NEIGHBORS, precision_recall_density_coverage
from memfast.metrics.moments import Moments

optional_package("torchmetrics", purpose="the torchmetrics classes", extra="test")
from torchmetrics import Metric  # noqa: E402 - checked first, so that an error of its own is told apart
from torchmetrics.utilities import dim_zero_cat  # noqa: E402

__all__ = ["AuthPct", "FrechetDistance", "KernelDistance", "MiFID", "PrecisionRecallDensityCoverage"]

Extractor = Callable[[Any], Any]


class _Float64Metric(Metric):
    """Keeps its state in float64 or float32: narrower numbers would lose the digits that the metrics are about."""

    def set_dtype(self, dst_type: Any) -> "Metric":
        """Convert the state.

        Raises:
            InputError: a dtype narrower than float32. Features of any dtype can be given to ``update``.
        """
        if dst_type not in (torch.float32, torch.float64):
            raise InputError(
                "set_dtype", expected="torch.float32 or torch.float64", received=str(dst_type),
                do="Leave the state as it is: update takes features of any dtype.",
            )  # fmt: skip
        return super().set_dtype(dst_type)


class FrechetDistance(_Float64Metric):
    """`memfast.metrics.frechet_distance`; its state is a count, a mean and a scatter matrix, in float64.

    Args:
        width: number of features.
        extractor: turns what `update` gets into ``[B, width]``; None takes features as they are.
        **options: of ``torchmetrics.Metric``.
    """

    higher_is_better, is_differentiable, full_state_update = False, False, True

    def __init__(self, width: int, *, extractor: Extractor | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.extractor = width, extractor
        for name in ("real", "generated"):
            self.add_state(f"{name}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx=None)
            self.add_state(f"{name}_mean", torch.zeros(width, dtype=torch.float64), dist_reduce_fx=None)
            self.add_state(f"{name}_scatter", torch.zeros(width, width, dtype=torch.float64), dist_reduce_fx=None)

    def update(self, features: Any, real: bool) -> None:
        """Add a batch of the real or of the generated set."""
        rows = _rows(features, self.extractor)
        if rows.shape[1] != self.width:
            raise InputError("features", expected=f"[B, {self.width}]", received=f"{list(rows.shape)}")
        name = "real" if real else "generated"
        moments = self._moments(name).update(rows)
        device = getattr(self, f"{name}_mean").device
        setattr(self, f"{name}_count", torch.tensor(moments.count, device=device))
        setattr(self, f"{name}_mean", torch.from_numpy(moments.mean).to(device))
        setattr(self, f"{name}_scatter", torch.from_numpy(moments.scatter).to(device))

    def compute(self) -> torch.Tensor:
        """The distance between all rows seen, on all ranks."""
        value = frechet_from_moments(self._moments("generated"), self._moments("real"))
        return _scalar(value)

    def _moments(self, name: str) -> Moments:
        """After a synchronization each state has one entry per rank in front."""
        count = getattr(self, f"{name}_count").reshape(-1)
        means = getattr(self, f"{name}_mean").double().reshape(len(count), self.width)
        scatters = getattr(self, f"{name}_scatter").double().reshape(len(count), self.width, self.width)
        total = Moments()
        for rank in range(len(count)):
            arrays = {"mean": means[rank], "scatter": scatters[rank]}
            numbers = {key: tensor.cpu().numpy().copy() for key, tensor in arrays.items()}
            total.merge(Moments.from_arrays({"count": count[rank].cpu().numpy(), **numbers}))
        return total


class _Gathered(_Float64Metric):
    """Keeps the features of both sets and measures them in the end."""

    is_differentiable, full_state_update = False, True
    real: list[torch.Tensor]
    generated: list[torch.Tensor]

    def __init__(self, *, extractor: Extractor | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.extractor = extractor
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    def update(self, features: Any, real: bool) -> None:
        """Add a batch of the real or of the generated set."""
        rows = torch.from_numpy(_rows(features, self.extractor)).to(self.device)
        (self.real if real else self.generated).append(rows)

    def _sets(self) -> tuple[np.ndarray, np.ndarray]:
        """(generated, real)."""
        for name in ("generated", "real"):
            if len(getattr(self, name)) == 0:
                raise InputError(name, expected="at least one update before compute", received="none")
        generated, real = (dim_zero_cat(rows).double().cpu().numpy() for rows in (self.generated, self.real))
        return generated, real


class KernelDistance(_Gathered):
    """`memfast.metrics.kernel_distance`: (mean, standard deviation) over subsets."""

    higher_is_better = False

    def __init__(
        self, *, kernel: str = "polynomial", subsets: int | None = SUBSETS, subset_size: int = SUBSET_SIZE,
        extractor: Extractor | None = None, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(extractor=extractor, **options)
        self.settings: dict[str, Any] = {"kernel": kernel, "subsets": subsets, "subset_size": subset_size}

    def compute(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The distance between all rows seen."""
        found = kernel_distance(*self._sets(), **self.settings)
        return _scalar(found.value), _scalar(found.standard_deviation)


class PrecisionRecallDensityCoverage(_Gathered):
    """`memfast.metrics.precision_recall_density_coverage` as a dict of four scalars."""

    higher_is_better = True

    def __init__(
        self, k: int = NEIGHBORS, *, closed: bool = False, extractor: Extractor | None = None, **options: Any
    ) -> None:
        super().__init__(extractor=extractor, **options)
        self.k, self.closed = k, closed

    def compute(self) -> dict[str, torch.Tensor]:
        """The four scores of all rows seen."""
        generated, real = self._sets()
        scores = precision_recall_density_coverage(real, generated, self.k, closed=self.closed)
        return {name: _scalar(value) for name, value in scores._asdict().items()}


class MiFID(_Gathered):
    """`memfast.metrics.mifid`, the training set as real."""

    higher_is_better = False

    def __init__(
        self, *, epsilon: float = COSINE_EPSILON, average_over: str = "generated",
        extractor: Extractor | None = None, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(extractor=extractor, **options)
        self.epsilon, self.average_over = epsilon, average_over

    def compute(self) -> torch.Tensor:
        """The score of all rows seen."""
        return _scalar(mifid(*self._sets(), epsilon=self.epsilon, average_over=self.average_over))


class AuthPct(_Gathered):
    """`memfast.metrics.auth_pct`, the training set as real."""

    higher_is_better = True

    def compute(self) -> torch.Tensor:
        """Per cent of the generated rows seen that are authentic."""
        return _scalar(auth_pct(*self._sets()))


def _scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _rows(features: Any, extractor: Extractor | None) -> np.ndarray:
    rows = extractor(features) if extractor is not None else features
    rows = plain_array("features", rows)
    if rows.ndim != 2 or rows.dtype.kind not in "biuf":
        raise InputError("features", expected="numbers [B, D]", received=f"{rows.dtype} of shape {list(rows.shape)}")
    return rows.astype(np.float64)
