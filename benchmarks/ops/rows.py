"""Noise, loss, gather and averages on all cores; 4 million float32 elements unless the name says otherwise."""

from collections.abc import Callable

import torch
from torch.nn.functional import mse_loss

import memfast._C as kernels
from benchmarks.rows import Row, Timed
from memfast import ops

STEPS = 1000
IMAGES = (1365, 3, 32, 32)  # 4.2 million elements
CALLS = 200


class Problem:
    """A batch, the linear schedule as a table for epsilon prediction, and the same as plain tensors."""

    def __init__(self, shape: tuple[int, ...] = IMAGES, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        self.x0 = torch.randn(shape).to(dtype)
        betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
        self.alphas_cumprod = (1 - betas).cumprod(0)
        zero, one = torch.zeros(STEPS), torch.ones(STEPS)
        alpha, sigma = self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt()
        self.table = torch.stack((alpha.float(), zero, sigma.float(), one, zero, zero, one), 1).contiguous()
        self.thresholds = torch.tensor([int(j / STEPS * 2**64) - 2**63 for j in range(1, STEPS)])
        self.ids, self.key = torch.arange(shape[0]), ops.key(0, 1)
        self.prediction = torch.randn(shape).to(dtype).requires_grad_()
        self.level = self.alphas_cumprod.float()

    def ours(self) -> tuple[torch.Tensor, torch.Tensor]:
        timesteps = ops.draw_timesteps(self.thresholds, self.ids, self.key)
        return ops.noise(self.x0, self.table, timesteps, self.ids, self.key), timesteps

    def our_loss(self, timesteps: torch.Tensor) -> None:
        self.prediction.grad = None
        ops.loss(self.prediction, self.x0, self.table, timesteps, self.ids, self.key).backward()

    def plain(self) -> tuple[torch.Tensor, torch.Tensor]:
        timesteps = torch.randint(0, STEPS, (len(self.x0),))
        noise = torch.randn_like(self.x0)
        level = self.level[timesteps].view(-1, *[1] * (self.x0.ndim - 1))
        return (level.sqrt() * self.x0 + (1 - level).sqrt() * noise).to(self.x0.dtype), noise

    def plain_loss(self, noise: torch.Tensor) -> None:
        self.prediction.grad = None
        mse_loss(self.prediction.float(), noise.float()).backward()

    def check(self) -> "Problem":
        """Both sides do the same thing, with noises of their own."""
        x_in, timesteps = self.ours()
        noise = ops.standard_normal(self.ids, self.x0[0].numel(), self.key).view(self.x0.shape)
        level = self.level[timesteps].view(-1, *[1] * (self.x0.ndim - 1))
        expected = level.sqrt() * self.x0 + (1 - level).sqrt() * noise
        torch.testing.assert_close(x_in.float(), expected.float(), rtol=2e-2, atol=2e-2)
        self.our_loss(timesteps)
        ours = self.prediction.grad
        self.plain_loss(noise)
        torch.testing.assert_close(ours, self.prediction.grad, rtol=2e-2, atol=1e-9)
        return self


def noise_and_eager() -> tuple[Timed, Timed]:
    problem = Problem().check()
    return problem.ours, problem.plain


def noise_and_compiled() -> tuple[Timed, Timed]:
    problem = Problem()
    return problem.ours, torch.compile(problem.plain)


def noise_and_diffusers() -> tuple[Timed, Timed]:
    problem, add_noise = Problem(), _diffusers()
    return problem.ours, lambda: add_noise(
        problem.x0, torch.randn_like(problem.x0), torch.randint(0, STEPS, IMAGES[:1])
    )


def noise_and_copy() -> tuple[Timed, Timed]:
    problem = Problem()
    threads = torch.get_num_threads()

    def copy() -> None:
        out = torch.empty_like(problem.x0)
        kernels.scale_copy(problem.x0.data_ptr(), out.numel(), 0.5, out.data_ptr(), threads)

    return problem.ours, copy


def noise_in(dtype: torch.dtype) -> Callable[[], tuple[Timed, Timed]]:
    def make() -> tuple[Timed, Timed]:
        problem = Problem(dtype=dtype)
        return problem.ours, problem.plain

    return make


def noise_on(instruction_set: str) -> Callable[[], tuple[Timed, Timed]]:
    def make() -> tuple[Timed, Timed]:
        problem = Problem()

        def ours() -> None:
            kernels.set_isa(instruction_set)
            problem.ours()
            kernels.set_isa("best")

        return ours, problem.plain

    return make


def loss_and_eager() -> tuple[Timed, Timed]:
    problem = Problem().check()
    (_, timesteps), (_, noise) = problem.ours(), problem.plain()
    return lambda: problem.our_loss(timesteps), lambda: problem.plain_loss(noise)


def loss_and_compiled() -> tuple[Timed, Timed]:
    problem = Problem()
    (_, timesteps), (_, noise) = problem.ours(), problem.plain()
    compiled = torch.compile(mse_loss)

    def peer() -> None:
        problem.prediction.grad = None
        compiled(problem.prediction, noise).backward()

    return lambda: problem.our_loss(timesteps), peer


def step_and_eager() -> tuple[Timed, Timed]:
    problem = Problem()
    return lambda: problem.our_loss(problem.ours()[1]), lambda: problem.plain_loss(problem.plain()[1])


def step_and_diffusers() -> tuple[Timed, Timed]:
    problem, add_noise = Problem(), _diffusers()

    def peer() -> None:
        noise = torch.randn_like(problem.x0)
        add_noise(problem.x0, noise, torch.randint(0, STEPS, IMAGES[:1]))
        problem.plain_loss(noise)

    return lambda: problem.our_loss(problem.ours()[1]), peer


def gather_and_eager() -> tuple[Timed, Timed]:
    problem = Problem()
    dataset = torch.randint(0, 256, (5000, 3, 32, 32), dtype=torch.uint8)
    indices = torch.randint(0, 5000, IMAGES[:1])
    arguments = (dataset, indices, problem.table, ops.Draw(problem.thresholds), problem.ids, problem.key)

    def peer() -> None:
        rows = dataset[indices].float() / 127.5 - 1
        rows = torch.where((torch.rand(len(rows)) < 0.5).view(-1, 1, 1, 1), rows.flip(-1), rows)
        level = problem.level[torch.randint(0, STEPS, IMAGES[:1])].view(-1, 1, 1, 1)
        level.sqrt() * rows + (1 - level).sqrt() * torch.randn_like(rows)

    return lambda: ops.gather_noise(*arguments, flip=True), peer


def small(op: str) -> Callable[[], tuple[Timed, Timed]]:
    """Many calls on 1,000 elements: what a call costs by itself."""

    def make() -> tuple[Timed, Timed]:
        problem = Problem((10, 100))
        (_, timesteps), (_, noise) = problem.ours(), problem.plain()
        operands = (problem.table, timesteps, problem.ids, problem.key)
        calls: dict[str, tuple[Timed, Timed]] = {
            "noise": (
                lambda: ops.noise(problem.x0, *operands),
                lambda: torch.randn_like(problem.x0) * 0.5 + problem.x0,
            ),
            "loss": (lambda: ops.loss(noise, problem.x0, *operands), lambda: mse_loss(noise, problem.x0)),
            "loss and backward": (lambda: problem.our_loss(timesteps), lambda: problem.plain_loss(noise)),
            "draw": (
                lambda: ops.draw_timesteps(problem.thresholds, problem.ids, problem.key),
                lambda: torch.randint(0, STEPS, (10,)),
            ),
        }
        ours, peer = calls[op]
        return lambda: [ours() for _ in range(CALLS)], lambda: [peer() for _ in range(CALLS)]

    return make


def averages(count: int) -> Callable[[], tuple[Timed, Timed]]:
    def make() -> tuple[Timed, Timed]:
        shapes = [(256, 256, 3, 3), (256,)] * 8 + [(512, 512)] * 4  # 5.8 million parameters
        parameters = [torch.randn(shape) for shape in shapes]
        stored = [[torch.zeros(shape) for shape in shapes] for _ in range(count)]
        decays = [0.9, 0.99, 0.999, 0.9999][:count]

        def peer() -> None:
            for decay, tensors in zip(decays, stored, strict=True):
                torch._foreach_lerp_(tensors, parameters, 1 - decay)

        return lambda: ops.ema(parameters, stored, decays), peer

    return make


def _diffusers() -> Callable[..., torch.Tensor]:
    from diffusers import DDPMScheduler

    return DDPMScheduler(STEPS, beta_schedule="linear").add_noise


EAGER = "eager randint, randn_like, add_noise"
ROWS = (
    Row("noise", EAGER, 6, noise_and_eager),
    Row("noise, compiled peer", "torch.compile of the same", 40, noise_and_compiled),
    Row("noise, diffusers", "randn_like, DDPMScheduler.add_noise", 6, noise_and_diffusers),
    Row("noise, share of bandwidth", "a plain scale-and-copy loop", 0.5, noise_and_copy),
    Row("noise bfloat16", EAGER, 6, noise_in(torch.bfloat16)),
    Row("noise float16", EAGER, 6, noise_in(torch.float16)),
    Row("noise on AVX2", EAGER, 2, noise_on("avx2")),
    Row("noise, portable", EAGER, 1, noise_on("portable")),
    Row("loss and gradient", "eager mse_loss, stored noise", 2, loss_and_eager),
    Row("loss and gradient, compiled peer", "torch.compile of mse_loss, stored noise", 1, loss_and_compiled),
    Row("noise, loss and gradient", "eager", 5, step_and_eager),
    Row("noise, loss, gradient, diffusers", "diffusers add_noise, mse_loss", 5, step_and_diffusers),
    Row("gather, flip, draw and noise", "eager, data set in memory", 6, gather_and_eager),
    Row("noise of 1,000 elements", "randn_like * s + x", 1, small("noise"), CALLS, 30),
    Row("loss of 1,000 elements", "mse_loss", 1, small("loss"), CALLS, 30),
    Row("loss, backward, 1,000 elements", "mse_loss and backward", 1, small("loss and backward"), CALLS),
    Row("draw for 10 samples", "randint", 1, small("draw"), CALLS, 30),
    Row("one average", "torch._foreach_lerp_", 1, averages(1)),
    Row("four averages", "torch._foreach_lerp_, four times", 1, averages(4)),
)
