"""The ops inside PyTorch: opcheck, fullgraph, dynamic shapes, autocast, checkpointing, forked workers."""

import subprocess
import sys

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from memfast import ops
from memfast.foundation.errors import InputError
from tests.ops.ops_cases import DTYPES

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
THRESHOLDS = torch.arange(-9, 10) * 2**58


def arguments_of(name, p):
    operands = ops.Operands(p.x0, p.table, p.timesteps, p.sample_ids, p.key, p.fixed_ids)
    prediction = torch.randn_like(p.x0).requires_grad_()
    dataset = torch.randint(0, 256, (6, *p.x0.shape[1:]), dtype=torch.uint8)
    gathered = operands._replace(x0=dataset, indices=torch.tensor([0, 5, 2, 2]), flip_width=p.x0.shape[-1])
    return {
        "philox": (torch.arange(8).view(2, 4), torch.tensor([[1, 2], [3, 4]]), "auto"),
        "standard_normal": (p.sample_ids, 63, p.key, 2, 5, "auto"),
        "draw_timesteps": (THRESHOLDS, torch.arange(4), 4, p.sample_ids, p.key, "auto"),
        "plain_noise": (*operands, "auto"),
        "noise": (p.x0.requires_grad_(), *operands[1:], "auto"),
        "loss_value": (prediction.detach(), *operands, True, "auto"),
        "plain_loss": (prediction.detach(), *operands, False, "auto"),
        "loss": (prediction, *operands, True, "auto"),
        "loss_backward": (prediction.detach(), torch.ones(4), False),
        "gather_noise, drawn": (*gathered._replace(timesteps=None), THRESHOLDS, None, 1, torch.bfloat16, "auto"),
        "gather_noise, given": (*gathered, None, None, 1, torch.float32, "auto"),
        "loss, gathered": (prediction, *gathered, False, "auto"),
        "loss_value, gathered": (prediction.detach(), *gathered, False, "auto"),
    }[name]  # fmt: skip


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "philox", "standard_normal", "draw_timesteps", "plain_noise", "noise", "loss_value", "plain_loss", "loss",
        "loss_backward", "gather_noise, drawn", "gather_noise, given", "loss, gathered", "loss_value, gathered",
    ],
)  # fmt: skip
def test_opcheck(problem, name, layout):
    p = problem((4, 3, 6, 5))
    p.x0 = p.x0.to(memory_format=layout)
    torch.library.opcheck(getattr(torch.ops.memfast, name.split(",")[0]).default, arguments_of(name, p))


def step(weight, x0, table, sample_ids, fixed_ids, key):
    timesteps = ops.draw_timesteps(THRESHOLDS, sample_ids, key)
    x_in = ops.noise(x0, table, timesteps, sample_ids, key, fixed_ids)
    return ops.loss(x_in * weight, x0, table, timesteps, sample_ids, key, fixed_ids)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_whole_step_compiles_without_a_break(problem, dtype):
    """One graph, no recompilation for another key, the eager values; then dynamic batch sizes."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for batch, number in ((4, 0), (4, 1), (6, 2), (9, 3), (13, 4)):
        p = problem((batch, 3, 5, 5), dtype)
        results = []
        for function in (compiled, step):
            weight = torch.full((1,), 0.5, dtype=dtype, requires_grad=True)
            value = function(weight, p.x0, p.table, p.sample_ids, p.fixed_ids, ops.key(7, number))
            value.backward()
            results.append((value.detach(), weight.grad))
        assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1])
    assert counter.frame_count <= 2


def test_inductor_gives_the_same_bits(problem):
    torch._dynamo.reset()
    p = problem((4, 3, 5, 5))
    compiled = torch.compile(lambda x0, key: ops.noise(x0, p.table, p.timesteps, p.sample_ids, key), fullgraph=True)
    assert torch.equal(compiled(p.x0, p.key), p.noise(fixed_ids=None))
    assert not torch.equal(compiled(p.x0, ops.key(1, 1)), compiled(p.x0, p.key))


def test_noise_compiled_for_a_learned_x0(problem):
    torch._dynamo.reset()
    p = problem()
    x0 = p.x0.clone().requires_grad_()
    compiled = torch.compile(lambda x0: p.noise(x0=x0), fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(x0).sum(), x0)
    (expected,) = torch.autograd.grad(p.noise(x0=x0).sum(), x0)
    assert torch.equal(got, expected)


def test_words_in_a_compiled_function():
    compiled = torch.compile(lambda counter, key: ops.philox(counter, key) & 1, fullgraph=True, backend="aot_eager")
    counter, key = torch.arange(12).view(3, 4), torch.tensor([5, 6])
    assert torch.equal(compiled(counter, key), ops.philox(counter, key) & 1)


@pytest.mark.parametrize("function", ["noise", "loss"])
def test_forward_mode_is_refused(problem, function):
    """PyTorch would take the tangent for zero without a word."""
    p = problem((4, 30))
    call = {"noise": lambda x: p.noise(x0=x), "loss": p.loss}[function]
    with pytest.raises(InputError, match="expected a tensor without a forward-mode tangent"):
        torch.func.jvp(call, (torch.ones(4, 30),), (torch.ones(4, 30),))
    # What has no tangent may stand beside what has one.
    noise = ops.standard_normal(p.sample_ids, 30, p.key)
    _, tangent = torch.func.jvp(lambda x: (x * p.noise()).sum(), (noise,), (noise,))
    torch.testing.assert_close(tangent, (noise * p.noise()).sum())


@pytest.mark.parametrize("function", ["noise", "loss"])
def test_derivatives_by_torch_func_are_refused(problem, function):
    p = problem((4, 30))
    call = {"noise": lambda x: p.noise(x0=x).sum(), "loss": p.loss}[function]
    with pytest.raises(InputError, match=r"outside of torch\.func's transforms"):
        torch.func.grad(call)(torch.ones(4, 30))


@pytest.mark.parametrize(
    "transform", [torch.func.grad, lambda call: lambda x: torch.func.vjp(call, x)[1](torch.ones(()))[0]]
)
def test_derivatives_by_torch_func_are_refused_where_they_are_compiled(problem, transform):
    """The compiler does not see that a gradient is wanted, and would give zeros without a word."""
    p = problem((4, 30))
    with pytest.raises(InputError, match=r"outside of torch\.func's transforms"):
        torch.compile(transform(p.loss), backend="eager")(torch.ones(4, 30))


def test_vmap_gives_each_sample_its_noise(problem):
    p = problem((4, 30), fixed=False)
    one = torch.vmap(lambda x, t, i: ops.noise(x[None], p.table, t[None], i[None], p.key)[0])
    assert torch.equal(one(p.x0, p.timesteps, p.sample_ids), p.noise())


def test_checkpointing_repeats_the_noise(problem):
    p = problem((4, 30))
    layer = torch.nn.Linear(30, 30)

    def forward(x0):
        return p.loss(layer(p.noise(x0=x0)))

    gradients = []
    for run in (forward, lambda x0: checkpoint(forward, x0, use_reentrant=False)):
        layer.zero_grad()
        run(p.x0).backward()
        gradients.append(layer.weight.grad.clone())
    assert torch.equal(*gradients)


def test_autocast_changes_nothing_but_the_prediction(problem):
    p = problem((4, 30))
    layer = torch.nn.Linear(30, 30)
    with torch.autocast("cpu", torch.bfloat16):
        x_in = p.noise()
        prediction = layer(x_in)
        value = p.loss(prediction)
    assert x_in.dtype == torch.float32
    assert torch.equal(x_in, p.noise())
    assert prediction.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    value.backward()
    assert layer.weight.grad.dtype == torch.float32
    assert torch.equal(value, p.loss(prediction))


FORKING = """
import sys
import torch
from memfast import ops

class Noises(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        # More than one thread for our kernel only: PyTorch's own OpenMP loops hang in a forked child.
        torch.set_num_threads(2)
        noise = ops.standard_normal(torch.tensor([index]), 50_000, ops.key(3))[0]
        torch.set_num_threads(1)
        return noise

torch.set_num_threads(2)
torch.zeros(1_000_000).sum()
if sys.argv[1] == "used":
    ops.standard_normal(torch.arange(4), 50_000, ops.key(3))
workers = {"num_workers": 2, "multiprocessing_context": "fork", "timeout": 300}
loader = torch.utils.data.DataLoader(Noises(), batch_size=2, **workers)
noises = torch.cat(list(loader))
assert torch.equal(noises, ops.standard_normal(torch.arange(4), 50_000, ops.key(3)))
"""


@pytest.mark.parametrize("before", ["used", "imported"])
def test_forked_workers_repeat_the_parents_noise(before):
    """The parent's threads exist before the fork; a child, even one that is the first to use the kernels, has its own.

    In a process of its own: what other tests' packages hold locked in their threads would stay locked in a child.
    """
    done = subprocess.run([sys.executable, "-c", FORKING, before], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_meta_and_fake_tensors_have_the_right_shapes(problem):
    with torch._subclasses.FakeTensorMode() as mode:
        p = problem((4, 3, 8, 8))
        fake = {name: mode.from_tensor(value) for name, value in vars(p).items()}
        x_in = p.noise(**fake)
        assert x_in.shape == (4, 3, 8, 8)
        assert p.loss(x_in, "none", **fake).shape == (4,)
