"""On a GPU: the same bits from the CPU reference, Triton and CUDA; graphs, compilation, search (benchmarks.gpu)."""

import numpy as np
import pytest
import torch

from memfast import ops
from memfast.ops.registry import why_unavailable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 1), (3, 63), (5, 500), (4, 3, 32, 32), (2, 70_001))
ROWS = 50


@pytest.fixture(params=["triton", "cuda"])
def backend(request):
    reason = why_unavailable(request.param)
    if reason:
        pytest.fail(f"{request.param}: {reason}")
    return request.param


def problem(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    batch = shape[0]
    return {
        "x0": torch.randn(shape, generator=generator).to(dtype),
        "table": torch.randn(ROWS, 7, generator=generator),
        "timesteps": torch.randint(0, ROWS, (batch,), generator=generator),
        "sample_ids": torch.randint(2**32, 2**56, (batch,), generator=generator),
        "key": ops.key(2**64 - 3, 2**32 - 1),
        "fixed_ids": torch.randint(0, 2**56, (batch,), generator=generator),
    }


def capture(step):
    """A CUDA graph of ``step``, which has run once on another stream before, and what the captured call gave."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    return graph, captured


def on_gpu(values):
    return {name: value.cuda() for name, value in values.items()}


@pytest.mark.parametrize("offset", [0, 2, 2**33 + 3])
@pytest.mark.parametrize("numel", [1, 63, 500, 1 << 20])
def test_normals_have_the_reference_bits(backend, numel, offset):
    ids, key = torch.tensor([0, 2**32 + 9, 2**56 - 1]), ops.key(2**63 + 1, 2**32 - 1)
    ours = ops.standard_normal(ids.cuda(), numel, key.cuda(), offset=offset, backend=backend)
    assert torch.equal(ours.cpu(), ops.standard_normal(ids, numel, key, offset=offset, backend="reference"))


@pytest.mark.parametrize("stratified", [False, True])
def test_timesteps_equal_the_reference(backend, stratified):
    bounds = torch.randint(-(2**63), 2**63 - 1, (999,), generator=torch.Generator().manual_seed(0)).sort().values
    ids, key = torch.arange(10_000) + 2**40, ops.key(5, 6)
    more = {"positions": torch.arange(10_000), "total": 10_000} if stratified else {}
    ours = ops.draw_timesteps(
        bounds.cuda(), ids.cuda(), key.cuda(), backend=backend,
        **({"positions": more["positions"].cuda(), "total": 10_000} if stratified else {}),
    )  # fmt: skip
    assert torch.equal(ours.cpu(), ops.draw_timesteps(bounds, ids, key, backend="reference", **more))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_noise_and_gradient_have_the_reference_bits(backend, shape, dtype):
    values = problem(shape, dtype)
    prediction = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    results = []
    for place, name in (("cpu", "reference"), ("cuda", backend)):
        here = {key: value.to(place) for key, value in values.items()}
        x_in = ops.noise(**here, backend=name)
        guess = prediction.to(place).requires_grad_(True)
        value = ops.loss(guess, **here, backend=name)
        (gradient,) = torch.autograd.grad(value, guess)
        results.append((x_in.cpu(), value.detach().cpu(), gradient.cpu()))
    (x_in, value, gradient), (our_x_in, our_value, our_gradient) = results
    assert torch.equal(x_in, our_x_in)
    torch.testing.assert_close(value, our_value, rtol=1e-5, atol=0)
    assert torch.equal(gradient, our_gradient)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_layouts_give_the_same_bits(backend, layout):
    values = on_gpu(problem((4, 3, 32, 32), torch.float32))
    expected = ops.noise(**values, backend=backend)
    values["x0"] = values["x0"].to(memory_format=layout)
    ours = ops.noise(**values, backend=backend)
    assert torch.equal(ours, expected)
    assert ours.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 7)])
def test_gather_equals_the_reference(backend, shape, dtype, flip):
    generator = torch.Generator().manual_seed(0)
    dataset = torch.randint(0, 256, (40, *shape), dtype=torch.uint8, generator=generator)
    values = problem((8, 1), dtype)
    indices = torch.randint(0, 40, (8,), generator=generator)
    bounds = torch.tensor([(j << 64) // ROWS - 2**63 for j in range(1, ROWS)])
    prediction = torch.randn((8, *shape), generator=generator).to(dtype)
    results = []
    for place, name in (("cpu", "reference"), ("cuda", backend)):
        table, ids, key, fixed = (values[k].to(place) for k in ("table", "sample_ids", "key", "fixed_ids"))
        data, rows = dataset.to(place), indices.to(place)
        x_in, timesteps = ops.gather_noise(
            data, rows, table, bounds.to(place), ids, key, fixed, draw=True, flip=flip, dtype=dtype, backend=name
        )
        guess = prediction.to(place).requires_grad_(True)
        value = ops.gather_loss(guess, data, rows, table, timesteps, ids, key, fixed, flip=flip, backend=name)
        (gradient,) = torch.autograd.grad(value, guess)
        results.append([part.detach().cpu() for part in (x_in, timesteps, gradient, value)])
    for expected, ours in zip(*[result[:3] for result in results], strict=True):
        assert torch.equal(expected, ours)
    torch.testing.assert_close(results[0][3], results[1][3], rtol=1e-5, atol=0)


def test_a_captured_graph_replays_with_a_new_step(backend):
    values = on_gpu(problem((4, 3, 32, 32), torch.float32))
    table = values["table"]
    bounds = torch.tensor([(j << 64) // ROWS - 2**63 for j in range(1, ROWS)], device="cuda")

    def step():
        timesteps = ops.draw_timesteps(bounds, values["sample_ids"], values["key"], backend=backend)
        rest = (values["sample_ids"], values["key"])
        x_in = ops.noise(values["x0"], table, timesteps, *rest, backend=backend)
        return timesteps, x_in, ops.loss(x_in, values["x0"], table, timesteps, *rest, backend=backend)

    graph, captured = capture(step)
    seen = []
    for number in (1, 2, 3):
        values["key"].copy_(ops.key(9, number))
        graph.replay()
        seen.append([part.clone() for part in captured])
        for replayed, eager in zip(captured, step(), strict=True):
            assert torch.equal(replayed, eager)
    assert not torch.equal(seen[0][1], seen[1][1])


def test_a_whole_step_compiles_without_break_or_wait(backend):
    values = on_gpu(problem((8, 1, 64), torch.float32))
    network = torch.nn.Linear(64, 64).cuda()

    def step(x0, timesteps, sample_ids, key):
        rest = (values["table"], timesteps, sample_ids, key)
        x_in = ops.noise(x0, *rest, backend=backend)
        return ops.loss(network(x_in), x0, *rest, backend=backend)

    arguments = [values[name] for name in ("x0", "timesteps", "sample_ids", "key")]
    compiled = torch.compile(step, fullgraph=True)
    compiled(*arguments).backward()
    network.zero_grad()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = compiled(*arguments)
        value.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(value, step(*arguments), rtol=1e-4, atol=1e-6)


def test_the_ops_pass_opcheck(backend):
    values = on_gpu(problem((3, 40), torch.float32))
    names = ("x0", "table", "timesteps", "sample_ids", "key", "fixed_ids")
    operands = tuple(values[name] for name in names)
    torch.library.opcheck(torch.ops.memfast.noise.default, (*operands, backend))
    prediction = torch.randn(3, 40, device="cuda", requires_grad=True)
    torch.library.opcheck(torch.ops.memfast.loss.default, (prediction, *operands, True, True, backend))


def test_a_row_out_of_range_gives_nan_and_waits_for_nothing(backend):
    values = on_gpu(problem((2, 16), torch.float32))
    values["timesteps"] = torch.tensor([ROWS, 0], device="cuda")
    result = ops.noise(**values, backend=backend)
    assert result[0].isnan().all()
    assert result[1].isfinite().all()


def test_losses_repeat_bit_for_bit(backend):
    values = on_gpu(problem((64, 3, 64, 64), torch.float32))
    prediction = torch.randn_like(values["x0"])
    results = {ops.loss(prediction, **values, backend=backend).item() for _ in range(5)}
    assert len(results) == 1


def test_averages_equal_the_rounded_formula():
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(size, generator=generator).cuda() for size in (1, 63, 5000, 100_001)]
    averages = [[torch.randn(p.shape, generator=generator).cuda() for p in parameters] for _ in range(2)]
    weights = [torch.tensor(1 - decay, dtype=torch.float64).float().cuda() for decay in (0.999, 0.5)]
    expected = [
        [a + weight * (p - a) for a, p in zip(row, parameters, strict=True)]
        for row, weight in zip(averages, weights, strict=True)
    ]
    ops.ema(parameters, averages, [0.999, 0.5], backend="triton")
    for ours, theirs in zip(averages, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_averages_in_a_captured_graph():
    weights = [torch.randn(8, 3, 3, 3).cuda().to(memory_format=torch.channels_last), torch.randn(1000).cuda()]
    averages = [torch.zeros_like(weight) for weight in weights]

    def step():
        ops.ema(weights, [averages], [0.5], backend="triton")

    graph, _ = capture(step)
    for size in range(1, 40):
        # Many other sets of tensors: the graph's table must stay.
        ops.ema([torch.ones(size).cuda()], [[torch.zeros(size).cuda()]], [0.5], backend="triton")
    for weight, average in zip(weights, averages, strict=True):
        weight.fill_(1)
        average.zero_()
    graph.replay()
    assert all(bool((average == 0.5).all()) for average in averages)


@pytest.mark.parametrize("length", [1, 63, 784, 3072, 40_000])
def test_search_is_exact(length):
    generator = np.random.default_rng(length)
    rows = 20_000 if length <= 784 else 3000
    block = generator.integers(0, 256, (rows, length), dtype=np.uint8)
    queries = generator.integers(0, 256, (300, length), dtype=np.uint8)
    queries[:50] = block[:50]
    queries[:50, 0] ^= 1
    found = ops.nearest(torch.from_numpy(queries).cuda(), torch.from_numpy(block).cuda(), 20, backend="triton")
    expected = ops.nearest(queries, block, 20)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_search_survives_sorted_rows_and_ties():
    rows = np.sort(np.random.default_rng(0).integers(0, 256, (50_000, 8), dtype=np.uint8), axis=0)[::-1].copy()
    rows[20_000:30_000] = rows[30_000]
    queries = rows[::5000]
    found = ops.nearest(torch.from_numpy(queries).cuda(), torch.from_numpy(rows).cuda(), 50, backend="triton")
    expected = ops.nearest(queries, rows, 50)
    np.testing.assert_array_equal(found.indices, expected.indices)
