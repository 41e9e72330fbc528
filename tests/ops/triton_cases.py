"""The Triton kernels in their interpreter, beside the reference. Run by test_triton_interpreter.py with
TRITON_INTERPRET=1, which must be set before triton is imported: hence a process and a file of their own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from memfast.ops import Draw, Operands, reference
from memfast.ops import key as make_key
from memfast.ops.registry import implementation
from memfast.ops.rows import as_rows

KEYS = (make_key(0, 0), make_key(2**64 - 3, 2**32 - 1))
SIZES = ((1, 1), (2, 63), (1, 500), (2, 1031))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BEYOND_32_BITS = 2**33 + 3
CPU = torch.device("cpu")
# Looked up when they are called, because doctests collect this file everywhere.
OPS = ("philox", "standard_normal", "draw_timesteps", "noise", "loss", "ema", "nearest", "range_search")
kernels = SimpleNamespace(**{op: lambda *arguments, op=op: implementation(op, CPU, "triton")(*arguments) for op in OPS})


def operands_of(p, fixed_ids, key):
    return Operands(p["x0"], p["table"], p["timesteps"], p["sample_ids"], key, fixed_ids)


def problem(batch, numel, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = 50
    return {
        "x0": torch.randn(batch, numel, generator=generator).to(dtype),
        "prediction": torch.randn(batch, numel, generator=generator).to(dtype),
        "table": torch.randn(rows, 7, generator=generator),
        "timesteps": torch.randint(0, rows, (batch,), generator=generator),
        "sample_ids": torch.randint(2**32, 2**56, (batch,), generator=generator),
        "fixed_ids": torch.randint(0, 2**56, (batch,), generator=generator),
    }


@pytest.fixture(autouse=True)
def poison_empty(monkeypatch):
    """An element that a kernel does not write is NaN, or a number nobody computes."""
    fill = lambda made: made.fill_(float("nan")) if made.is_floating_point() else made.fill_(-77)  # noqa: E731
    empty, empty_like = torch.empty, torch.empty_like
    monkeypatch.setattr(torch, "empty", lambda *a, **k: fill(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: fill(empty_like(*a, **k)))


def test_philox_gives_the_known_answers():
    # Random123's kat_vectors, philox4x32 10.
    ones = [0xFFFFFFFF] * 4
    counter = torch.tensor([[0] * 4, ones, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]])
    keys = torch.tensor([[0, 0], ones[:2], [0xA4093822, 0x299F31D0]])
    expected = torch.tensor(
        [
            [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ]
    )
    assert torch.equal(kernels.philox(counter, keys), expected)


@pytest.mark.parametrize(("batch", "numel"), SIZES)
@pytest.mark.parametrize("offset", [0, 2, BEYOND_32_BITS])
def test_normals_have_the_reference_bits(batch, numel, offset):
    ids = problem(batch, numel, torch.float32)["sample_ids"]
    for key in KEYS:
        ours = kernels.standard_normal(ids, numel, key, 5, offset)
        assert torch.equal(ours, reference.standard_normal(ids, numel, key, 5, offset))


@pytest.mark.parametrize("thresholds", [0, 1, 2, 999])
@pytest.mark.parametrize("stratified", [False, True])
def test_timesteps_equal_the_reference(thresholds, stratified):
    generator = torch.Generator().manual_seed(thresholds)
    bounds = torch.randint(-(2**63), 2**63 - 1, (thresholds,), generator=generator).sort().values
    ids = torch.randint(0, 2**56, (300,), generator=generator)
    total = 2**31
    positions = torch.randint(0, total, (300,), generator=generator) if stratified else None
    for key in KEYS:
        draw = Draw(bounds, positions, total if stratified else 1)
        assert torch.equal(kernels.draw_timesteps(draw, ids, key), reference.draw_timesteps(draw, ids, key))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "numel"), SIZES)
def test_noise_has_the_reference_bits(batch, numel, dtype):
    p = problem(batch, numel, dtype)
    for key in KEYS:
        for fixed_ids in (None, p["fixed_ids"]):
            operands = operands_of(p, fixed_ids, key)
            ours, timesteps = kernels.noise(operands, None, dtype)
            assert ours.dtype == dtype
            assert torch.equal(ours, reference.noise(operands, None, dtype)[0])
            assert torch.equal(timesteps, p["timesteps"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "numel"), SIZES)
def test_loss_agrees_and_its_gradient_has_the_reference_bits(batch, numel, dtype):
    p = problem(batch, numel, dtype)
    for fixed_ids, mean, scale in ((None, False, None), (p["fixed_ids"], True, 2.0 / (batch * numel))):
        arguments = (p["prediction"], operands_of(p, fixed_ids, KEYS[1]), mean, scale)
        value, gradient = kernels.loss(*arguments)
        expected, expected_gradient = reference.loss(*arguments)
        torch.testing.assert_close(value, expected, rtol=2e-6, atol=0)
        assert (gradient is None) == (scale is None)
        assert gradient is None or torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 7), (torch.bfloat16, 8), (torch.float16, 0)])
def test_gather_reads_flips_draws_and_noises_in_one_launch(dtype, width):
    batch, numel, key = 6, 56, KEYS[1]
    p = problem(batch, numel, dtype)
    dataset = torch.randint(0, 256, (11, numel), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    indices = torch.tensor([10, 0, 3, 3, 7, 1])
    x0 = (dataset[indices].float() * 2 - 255) * torch.tensor(1 / 255, dtype=torch.float32)
    if width:
        ids = p["sample_ids"]
        counter = torch.stack((ids * 0, ids & 0xFFFFFFFF, ids * 0 + key[1], (3 << 24) | (ids >> 32)), 1)
        words = reference.philox(counter, torch.stack((key[0] & 0xFFFFFFFF, (key[0] >> 32) & 0xFFFFFFFF)))
        odd = (words[:, 0] & 1) == 1
        assert odd.any()
        assert not odd.all()
        x0 = torch.where(odd[:, None], x0.view(batch, -1, width).flip(2).reshape(batch, numel), x0)
    bounds = torch.arange(1, 50, dtype=torch.int64) * (2**64 // 50) - 2**63
    draw = Draw(bounds, None, 1)
    gathered = operands_of(p, p["fixed_ids"], key)._replace(
        x0=dataset, timesteps=None, indices=indices, flip_width=width
    )
    ours, drawn = kernels.noise(gathered, draw, dtype)
    assert torch.equal(drawn, reference.draw_timesteps(draw, p["sample_ids"], key))
    # The clean values stay float32 up to the one rounding at the end.
    clean = operands_of(p, p["fixed_ids"], key)._replace(x0=x0, timesteps=drawn)
    expected, _ = reference.noise(clean, None, dtype)
    assert torch.equal(ours, expected)
    gathered = gathered._replace(timesteps=drawn)
    assert torch.equal(kernels.noise(gathered, None, dtype)[0], expected)
    value, gradient = kernels.loss(p["prediction"], gathered, True, 0.01)
    expected_value, expected_gradient = reference.loss(p["prediction"], clean, True, 0.01)
    torch.testing.assert_close(value, expected_value, rtol=2e-6, atol=0)
    assert torch.equal(gradient, expected_gradient)


def test_empty_batches_give_empty_results():
    p = problem(0, 8, torch.float32)
    operands = operands_of(p, None, KEYS[0])
    assert kernels.noise(operands, None, torch.float32)[0].shape == (0, 8)
    assert kernels.standard_normal(p["sample_ids"], 8, KEYS[0], 0, 0).shape == (0, 8)
    value, gradient = kernels.loss(p["prediction"], operands, True, 1.0)
    assert value.item() == 0
    assert gradient.shape == (0, 8)


@pytest.mark.parametrize("parameter_dtype", DTYPES)
def test_averages_equal_the_rounded_formula(parameter_dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = ((1,), (63,), (5, 200), (3, 1, 7))
    parameters = [torch.randn(shape, generator=generator).to(parameter_dtype) for shape in shapes]
    averages = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(5)]
    decays = torch.tensor([0.999, 0.5, 0.0, 1.0, 0.99], dtype=torch.float64)
    expected = [
        [a + (1 - decay).float() * (p.float() - a) for a, p in zip(row, parameters, strict=True)]
        for row, decay in zip(averages, decays, strict=True)
    ]
    kernels.ema(parameters, averages, decays)
    for ours, theirs in zip(averages, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_captured_graph_keeps_its_table_of_averages(monkeypatch):
    from memfast.foundation.errors import InputError
    from memfast.ops.triton import ema as module

    def take(size):
        tensors = torch.zeros(size), torch.zeros(size)
        module._table(((size, tensors[0].data_ptr(), tensors[1].data_ptr()),), torch.device("cpu"))
        return module._tables[next(reversed(module._tables))]

    monkeypatch.setattr(module, "_tables", type(module._tables)())
    monkeypatch.setattr(module, "_captured", {})
    kernels.ema(*(arguments := ([torch.ones(7)], [[torch.zeros(7)]], torch.tensor([0.5], dtype=torch.float64))))
    with monkeypatch.context() as capture:
        capture.setattr(module, "_is_capturing", lambda device: True)
        kernels.ema(*arguments)
        (table,) = module._captured.values()
        with pytest.raises(InputError, match="seen before the capture"):
            take(3)
    for size in range(10, 10 + 2 * module.KEPT_TABLES):
        take(size)
    assert len(module._tables) == module.KEPT_TABLES
    assert any(kept[0] is table[0] for kept in module._captured.values())


@pytest.fixture
def short_stretches(monkeypatch):
    """The lengths at which the search changes its ways, brought down to what an interpreter can run."""
    from memfast.ops.triton import nearest as search

    monkeypatch.setattr(search, "DENSE_ROWS", 100)
    monkeypatch.setattr(search, "QUERIES_PER_BATCH", 70)


def bytes_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def check_search(queries, block, k, bound=None, exclude=None):
    arguments = (as_rows(queries, "queries"), as_rows(block, "block"), min(k, len(block)), bound, exclude)
    ours, theirs = kernels.nearest(*arguments), brute_force(queries, block, min(k, len(block)), bound, exclude)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


def brute_force(queries, block, k, bound, exclude):
    x, y = queries.astype(np.int64), block.astype(np.int64)
    squared = ((x[:, None] - y[None]) ** 2).sum(2)
    missing = np.iinfo(np.int64).max
    if bound is not None:
        squared[squared > np.asarray(bound)[:, None]] = missing
    if exclude is not None:
        squared[np.asarray(exclude)[:, None] == np.arange(len(block))] = missing
    order = np.argsort(squared, 1, kind="stable")[:, :k]
    distances = np.take_along_axis(squared, order, 1)
    return distances, np.where(distances == missing, -1, order)


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize(
    ("count", "rows", "length", "k"), [(5, 1, 1, 1), (3, 63, 1, 5), (75, 400, 63, 7), (2, 250, 784, 300)]
)
def test_search_equals_brute_force(count, rows, length, k):
    check_search(bytes_of(count, length), bytes_of(rows, length, seed=1), k)


@pytest.mark.usefixtures("short_stretches")
def test_search_breaks_ties_by_the_lowest_index():
    block = np.repeat(bytes_of(3, 5), 110, axis=0)
    check_search(block[::150], block, 5)
    check_search(np.zeros((2, 5), np.uint8), np.full((210, 5), 255, np.uint8), 3)


@pytest.mark.usefixtures("short_stretches")
def test_search_survives_rows_that_come_ever_nearer():
    # Every row of the last stretch beats the limit, more than fit: the stretch is halved until all distances are kept.
    block = np.sort(bytes_of(400, 2), axis=0)[::-1].copy()
    check_search(np.zeros((1, 2), np.uint8), block, 3)


@pytest.mark.usefixtures("short_stretches")
def test_search_leaves_out_and_bounds():
    block = bytes_of(300, 20)
    check_search(block[:80], block, 4, exclude=np.arange(80))
    check_search(block[:9], block, 4, bound=np.array([0, -1, 10**5, 2 * 10**5, 10**9, 0, 1, 90000, 2**62]))


def test_wide_rows_add_in_int64():
    block = np.where(bytes_of(9, 33_100) < 128, 0, 255).astype(np.uint8)
    check_search(block[:2], block, 3)
    check_search(np.zeros((1, 33_100), np.uint8), np.full((2, 33_100), 255, np.uint8), 1)


def test_range_search_equals_the_reference():
    queries, block = bytes_of(20, 30), bytes_of(210, 30, seed=1)
    arguments = (as_rows(queries, "queries"), as_rows(block, "block"), 3e5, np.arange(20))
    ours, theirs = (
        kernels.range_search(*arguments),
        implementation("range_search", torch.device("cpu"), "reference")(*arguments),
    )
    assert len(ours[0]) > 20
    for ours_part, theirs_part in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(ours_part, theirs_part)
