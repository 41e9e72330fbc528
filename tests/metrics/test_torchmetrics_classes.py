import numpy as np
import pytest
import torch
import torch.multiprocessing

from memfast.foundation.errors import InputError
from memfast.metrics import auth_pct, frechet_distance, kernel_distance, mifid, precision_recall_density_coverage
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
