import runpy
import sys

import numpy as np
import pytest
import torch
import torch.multiprocessing

from memfast.foundation.errors import InputError, PackageImportError
from memfast.metrics import (
    auth_pct,
    frechet_distance,
    kernel_distance,
    mifid,
    precision_recall_density_coverage,
    torchmetrics_classes,
)
from memfast.metrics.torchmetrics_classes import (
    AuthPct,
    FrechetDistance,
    KernelDistance,
    MiFID,
    PrecisionRecallDensityCoverage,
)

GENERATOR = np.random.default_rng(0)
REAL, GENERATED = GENERATOR.standard_normal((90, 6)) + 50, GENERATOR.standard_normal((70, 6)) + 50.2
EXPECTED = [
    (lambda: FrechetDistance(6), lambda: frechet_distance(GENERATED, REAL)),
    (lambda: KernelDistance(subsets=None), lambda: kernel_distance(GENERATED, REAL, subsets=None).value),
    (PrecisionRecallDensityCoverage, lambda: precision_recall_density_coverage(REAL, GENERATED)._asdict()),
    (MiFID, lambda: mifid(GENERATED, REAL)),
    (AuthPct, lambda: auth_pct(GENERATED, REAL)),
]


def fill(metric, rank=0, world=1):
    for rows, real in ((REAL, True), (GENERATED, False)):
        for batch in np.array_split(rows, 7)[rank::world]:
            metric.update(torch.from_numpy(batch), real=real)


def plain(value):
    value = value[0] if isinstance(value, tuple) else value
    return {name: float(item) for name, item in value.items()} if isinstance(value, dict) else float(value)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize(("make", "expected"), EXPECTED)
def test_batches_add_up_and_reset_forgets(make, expected):
    metric = make()
    for _ in range(2):
        fill(metric)
        assert plain(metric.compute()) == pytest.approx(expected(), rel=1e-9)
        metric.reset()
    with pytest.raises(InputError):
        metric.compute()


def _rank(rank, meeting, queue):
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    results = []
    for make, _ in EXPECTED[:3]:
        metric = make()
        fill(metric, rank, 2)
        results.append(plain(metric.compute()))
    queue.put((rank, results))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_ranks_add_up(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    workers = [context.Process(target=_rank, args=(rank, tmp_path / "rendezvous", queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = dict(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    for rank in range(2):
        for value, (_, expected) in zip(found[rank], EXPECTED[:3], strict=True):
            assert value == pytest.approx(expected(), rel=1e-9)


def test_an_extractor_is_used():
    metric = FrechetDistance(3, extractor=lambda rows: rows[:, :3])
    fill(metric)
    assert float(metric.compute()) == pytest.approx(frechet_distance(GENERATED[:, :3], REAL[:, :3]), rel=1e-9)


def test_another_width_is_an_error():
    with pytest.raises(InputError, match=r"expected \[B, 5\], received \[2, 6\]"):
        FrechetDistance(5).update(torch.zeros(2, 6), real=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_states_are_refused_and_narrow_features_are_not(dtype):
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    for metric in (FrechetDistance(3), AuthPct()):
        with pytest.raises(InputError, match=r"set_dtype: expected torch.float32 or torch.float64"):
            metric.set_dtype(dtype)
        for real in (True, False):
            metric.update((rows + real).to(dtype), real=real)
        exact = type(metric)(3) if isinstance(metric, FrechetDistance) else type(metric)()
        for real in (True, False):
            exact.update((rows + real).to(dtype).double(), real=real)
        assert metric.compute() == exact.compute()
        assert metric.set_dtype(torch.float32).compute() == pytest.approx(float(exact.compute()), rel=1e-5)


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (torch.eye(3).to_sparse(), "features: expected a dense tensor"),
        (np.ma.masked_array(np.eye(3)), "features: expected an array without a mask"),
        (torch.ones(3), "features: expected numbers"),
    ],
    ids=["sparse", "masked", "flat"],
)
def test_what_it_cannot_read_is_refused(features, text):
    with pytest.raises(InputError, match=text):
        AuthPct().update(features, real=True)


def test_a_dependency_that_torchmetrics_lacks_is_not_called_torchmetrics(tmp_path, monkeypatch):
    """A stand-in whose import fails for want of another package: the error names that one."""
    (tmp_path / "torchmetrics").mkdir()
    (tmp_path / "torchmetrics" / "__init__.py").write_text("import a_package_that_is_missing\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PackageImportError) as error:
        runpy.run_path(torchmetrics_classes.__file__)
    assert "torchmetrics, which is installed but cannot be imported" in str(error.value)
    assert "No module named 'a_package_that_is_missing'" in str(error.value)
    assert "pip install" not in str(error.value)
