"""Two processes, as torchrun starts them: noise and order exactly as with one, the loss to tolerance, resume.

``plain`` keeps a copy of the network in each process, ``spread`` a part (FSDP2 over gloo).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from memfast import models
from memfast.foundation.errors import InputError
from memfast.runtime.distributed import Ranks
from memfast.training import read_log
from memfast.training.sharding import check_batch
from tests.training.two_processes import adapt, train

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, free_port):
    """The same trainings by one process and by two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    port = free_port()
    common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    runs = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(two)], stderr=subprocess.PIPE, text=True,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        alone = subprocess.run(
            [sys.executable, str(SCRIPT), str(one)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert alone.returncode == 0, alone.stderr[-3000:]
        for process in runs:
            errors = process.communicate(timeout=900)[1]
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in runs:
            process.kill()
    return one, two


def seen(folder, name, rank=0):
    return json.loads((folder / f"{name}-{rank}.json").read_text())


def losses(folder):
    return torch.tensor([entry["loss"] for entry in read_log(folder) if "loss" in entry], dtype=torch.float64)


@pytest.mark.parametrize(
    ("part", "steps"), [("plain-first", 6), ("plain-rest", 4), ("spread-first", 6), ("spread-rest", 4)]
)
def test_ids_timesteps_and_noised_items_are_exactly_those_of_one_process(folders, part, steps):
    one, two = folders
    alone, first, second = seen(one, part), seen(two, part, 0), seen(two, part, 1)
    assert len(alone) == len(first) == steps
    for step in range(steps):
        assert [a + b for a, b in zip(first[step], second[step], strict=True)] == alone[step]


@pytest.mark.parametrize("name", ["plain", "spread"])
def test_the_loss_and_the_weights_agree(folders, name):
    one, two = (folder / name for folder in folders)
    assert len(losses(one)) == 10
    torch.testing.assert_close(losses(one), losses(two), rtol=1e-4, atol=1e-5)
    norms = [[entry["grad_norm"] for entry in read_log(folder) if "loss" in entry] for folder in (one, two)]
    np.testing.assert_allclose(*norms, rtol=1e-3)
    assert name == "plain" or max(norms[0]) > 0.1  # so that clipping is at work
    for weights in ("model", "0.999"):
        a, b = (models.load_run(folder, weights=weights).model.state_dict() for folder in (one, two))
        for entry in a:
            torch.testing.assert_close(a[entry], b[entry], rtol=1e-3, atol=1e-4)
    audits = [[entry["step"] for entry in read_log(folder) if "memorized" in entry] for folder in (one, two)]
    assert audits == [[4, 8], [4, 8]]


def test_spreading_keeps_whole_checkpoints_that_one_process_continues(folders, tmp_path):
    shapes = []
    for folder in folders:
        found = models.newest_checkpoint(folder / "spread")
        names = [name for name in found.state["files"] if name.endswith(".safetensors")]
        shapes.append({f"{file}/{name}": t.shape for file in names for name, t in found.tensors(file).items()})
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 50
    assert json.loads((folders[1] / "spread/run.json").read_text())["sharded"]
    for number, folder in enumerate(folders):
        copy = tmp_path / str(number)
        shutil.copytree(folder / "spread", copy)
        train(copy, "more", steps=14, grad_clip=0.1, resume=True)
        assert [entry["step"] for entry in read_log(copy) if "loss" in entry] == list(range(1, 15))
    assert seen(tmp_path, "0-more") == seen(tmp_path, "1-more")
    torch.testing.assert_close(losses(tmp_path / "0"), losses(tmp_path / "1"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gated", "spread-gated"])
def test_accumulation_and_the_gate_draw_the_same_samples(folders, name):
    one, two = folders

    def ids(*ranks):
        return [sorted(i for rank in ranks for part in rank[at : at + 2] for i in part[0]) for at in range(0, 12, 2)]

    alone, first, second = seen(one, f"{name}-all"), seen(two, f"{name}-all", 0), seen(two, f"{name}-all", 1)
    assert len(alone) == len(first) == 12  # two parts a step
    assert ids(alone) == ids(first, second)
    torch.testing.assert_close(losses(one / name), losses(two / name), rtol=1e-3, atol=1e-4)
    shares = [[entry["skipped"] for entry in read_log(folder / name) if "loss" in entry] for folder in folders]
    assert max(shares[0]) > 0
    assert shares[0] == shares[1]


@pytest.mark.parametrize(("part", "steps"), [("first", 8), ("rest", 8)])
def test_an_adaptive_density_learns_the_same_from_both_processes(folders, part, steps):
    """Between processes to the bit; against one process the losses, and so the probabilities, to rounding."""
    one, two = folders

    def draws(*ranks):
        both = [[pair for part in parts for pair in zip(*part[:2], strict=True)] for parts in zip(*ranks, strict=True)]
        return [sorted(both[at] + both[at + 1]) for at in range(0, 2 * steps, 2)]  # two parts a step

    records = seen(one, f"adaptive-{part}"), seen(two, f"adaptive-{part}", 0), seen(two, f"adaptive-{part}", 1)
    assert draws(records[0]) == draws(*records[1:])
    alone, first, second = (
        seen(folder, f"adaptive-{part}-learned", rank) for folder, rank in ((one, 0), (two, 0), (two, 1))
    )
    assert first == second
    assert alone["density"]["counts"] == first["density"]["counts"]
    assert min(first["density"]["counts"]) >= 2  # warm, and so no longer uniform
    assert max(first["probabilities"]) > 1.2 * min(first["probabilities"])
    np.testing.assert_allclose(alone["density"]["losses"], first["density"]["losses"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone["probabilities"], first["probabilities"], rtol=1e-4)
    for name, weights in alone["weights"].items():
        np.testing.assert_allclose(weights, first["weights"][name], rtol=1e-3, atol=1e-4)


def test_an_adaptive_density_is_kept_by_either(folders, tmp_path):
    """The checkpoint of two processes goes on in one, as that of one does."""
    learned = []
    for number, folder in enumerate(folders):
        copy = tmp_path / str(number)
        shutil.copytree(folder / "adaptive", copy)
        adapt(copy, "more", steps=20, resume=True)
        learned.append(seen(tmp_path, f"{number}-more-learned"))
    assert sum(learned[0]["density"]["counts"]) == 20 * 8
    assert learned[0]["density"]["counts"] == learned[1]["density"]["counts"]
    np.testing.assert_allclose(learned[0]["probabilities"], learned[1]["probabilities"], rtol=1e-4)


def test_the_process_that_drew_a_bad_item_names_it(folders):
    one, two = folders
    (alone,) = (path.read_text() for path in one.glob("bad-*.txt"))
    both = sorted(path.read_text() for path in two.glob("bad-*.txt"))
    assert "(item 7, timestep" in alone
    assert len(both) == 2
    assert any("(item 7, timestep" in text for text in both)
    assert any("another process names its samples" in text for text in both)
    records = [json.loads((folder / "bad/not-finite.json").read_text()) for folder in folders]
    assert records[0]["sample_ids"] == records[1]["sample_ids"]
    assert set(records[0]["data_indices"]) == {7}


def test_buffers_begin_as_process_0_has_them(folders):
    first, second = (seen(folders[1], "featured-learned", rank)["weights"] for rank in (0, 1))
    assert first == second


def test_a_folder_in_use_is_an_error_of_every_process(folders):
    _, two = folders
    first, second = ((two / f"featured-refused-{rank}.txt").read_text() for rank in (0, 1))
    assert "received one that already holds results" in first
    assert second.startswith(f"{two / 'featured'}: rank 0 of 2 failed: OutputError: ")
    assert "received one that already holds results" in second


@pytest.mark.parametrize(("batch", "size", "accumulate"), [(9, 2, 1), (8, 3, 1), (8, 2, 3), (8, 1, 0)])
def test_a_batch_that_does_not_divide_is_an_error(batch, size, accumulate):
    with pytest.raises(InputError, match=f"batch_size: expected a multiple of .*world size {size}"):
        check_batch(Ranks(0, size), batch, accumulate)
    check_batch(Ranks(0, 2), 8, 2)
