"""Noise, loss with gradient, and both together, beside eager PyTorch, torch.compile (with CUDA graphs) and diffusers.

``floor``: bytes that must move over the measured copy bandwidth, or the normals over the rate of the normals alone,
whichever is longer (``docs/performance.md``); ``of_floor`` is floor / time, 1 at best.
"""

import importlib.util

import torch
import torch.nn.functional as F

from benchmarks.gpu.machine import normals
from benchmarks.gpu.problem import Problem
from benchmarks.gpu.timing import copies_for, copy_bandwidth, device_ms, replay_ms
from memfast import ops

SETTINGS = (
    ((512, 1, 1024), torch.float32),
    ((256, 4, 64, 64), torch.float32),
    ((256, 4, 64, 64), torch.bfloat16),
    ((32, 3, 512, 512), torch.bfloat16),
)


def run(record) -> int:
    bandwidth = copy_bandwidth()
    rates = {backend: _rate(backend) for backend in ("cuda", "triton")}
    for shape, dtype in SETTINGS:
        for what in ("noise", "loss", "both"):
            _case(record, what, shape, dtype, bandwidth, rates)
    return record.exit_code()


def _rate(backend):
    try:
        return normals(backend)
    except Exception as error:
        print(f"{backend}: {error}", flush=True)
        return None


def _case(record, what, shape, dtype, bandwidth, rates):
    # One function is compiled for every case; without this it would reach its limit of recompilations.
    torch._dynamo.reset()
    size = torch.empty(0, dtype=dtype).element_size()
    problems = [Problem.make(shape, dtype, seed) for seed in range(copies_for(2 * size * torch.Size(shape).numel()))]
    count = problems[0].x0.numel()
    # Noise reads x0 and writes x_in; the loss reads prediction and x0 and writes the gradient.
    moved = size * count * {"noise": 2, "loss": 3, "both": 5}[what]
    generations = 2 if what == "both" else 1
    label = f"{what}, {'x'.join(map(str, shape))}, {str(dtype).removeprefix('torch.')}"
    times = {}
    for name, calls, measure in _contestants(what, problems):
        try:
            times[name] = measure(calls)
        except Exception as error:
            print(f"{label}, {name}: {type(error).__name__}: {error}", flush=True)
            times[name] = f"{type(error).__name__}"
    row = {f"{name}_ms": value for name, value in times.items()}
    peers = [value for name, value in times.items() if not name.startswith("memfast") and isinstance(value, float)]
    for backend, rate in rates.items():
        ours = times.get(f"memfast_{backend}")
        if isinstance(ours, float):
            floor = max(moved / bandwidth, generations * count / rate if rate else 0) * 1e3
            row[f"{backend}_of_floor"] = floor / ours
            row[f"{backend}_ratio_to_best_peer"] = min(peers) / ours if peers else "no peer ran"
    if not any(isinstance(times.get(f"memfast_{backend}"), float) for backend in rates):
        row["failed"] = "neither backend ran"
    record.row(name=label, **row)


def _contestants(what, problems):
    for backend in ("cuda", "triton"):
        yield f"memfast_{backend}", [_ours(what, p, backend) for p in problems], replay_ms
    plain = {"noise": _plain_noise, "loss": _plain_loss, "both": _plain_both}[what]
    yield "eager", [lambda p=p: plain(p) for p in problems], replay_ms
    yield "compiled", _compiled(plain, problems), device_ms
    yield "compiled_graph", _compiled(plain, problems), replay_ms
    if what == "both" and importlib.util.find_spec("diffusers"):
        yield "diffusers", _diffusers(problems), device_ms


def _ours(what, p, backend):
    def noise():
        return ops.noise(p.x0, p.table, p.timesteps, p.sample_ids, p.key, backend=backend)

    def loss():
        prediction = p.prediction.detach().requires_grad_(True)
        value = ops.loss(prediction, p.x0, p.table, p.timesteps, p.sample_ids, p.key, backend=backend)
        return value, *torch.autograd.grad(value, prediction)

    return {"noise": noise, "loss": loss, "both": lambda: (noise(), *loss())}[what]


def _plain_noise(p):
    eps = torch.randn_like(p.x0)
    return (p.alpha[p.timesteps].view(p.broad) * p.x0 + p.sigma[p.timesteps].view(p.broad) * eps).to(p.x0.dtype), eps


def _plain_loss(p, eps=None):
    prediction = p.prediction.detach().requires_grad_(True)
    value = F.mse_loss(prediction.float(), (p.eps if eps is None else eps).float())
    return value, *torch.autograd.grad(value, prediction)


def _plain_both(p):
    x_t, eps = _plain_noise(p)
    return x_t, *_plain_loss(p, eps)


def _compiled(plain, problems):
    # A forward function whose backward pass is compiled with it; the caller's loop is the same as eager's.
    def forward(prediction, x0, timesteps, alpha, sigma, eps, broad, noising, losing):
        x_t = None
        if noising:
            eps = torch.randn_like(x0)
            x_t = (alpha[timesteps].view(broad) * x0 + sigma[timesteps].view(broad) * eps).to(x0.dtype)
        return (x_t, F.mse_loss(prediction.float(), eps.float())) if losing else (x_t, eps)

    compiled = torch.compile(forward, dynamic=False)
    noising, losing = plain is not _plain_loss, plain is not _plain_noise

    def call(p):
        prediction = p.prediction.detach().requires_grad_(losing)
        x_t, value = compiled(prediction, p.x0, p.timesteps, p.alpha, p.sigma, p.eps, p.broad, noising, losing)
        return (x_t, value, *torch.autograd.grad(value, prediction)) if losing else (x_t, value)

    return [lambda p=p: call(p) for p in problems]


def _diffusers(problems):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=1000)

    def call(p):
        eps = torch.randn_like(p.x0)
        return scheduler.add_noise(p.x0, eps, p.timesteps), *_plain_loss(p, eps)

    return [lambda p=p: call(p) for p in problems]
