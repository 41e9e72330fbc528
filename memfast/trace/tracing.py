"""The trace of a trained run, and the trace of a diffusers pipeline: conditions times seeds, everything measured."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from memfast.detectors import Detector
from memfast.foundation.arguments import whole_number
from memfast.models import Run
from memfast.sampling import Guidance, Sampler
from memfast.trace.config import Features, TraceConfig
from memfast.trace.result import TraceResult
from memfast.trace.session import trace
from memfast.trace.subjects.pipeline import PipelineOptions, PipelineSubject
from memfast.trace.subjects.run import ROWS, RunOptions, RunSubject


def trace_run(
    run: Run,
    *,
    labels: Sequence[int] | None,
    seeds: int | Sequence[int] = TraceConfig.seeds,
    steps: int = TraceConfig.steps,
    guidance: float | Guidance | Mapping[str, Any] = TraceConfig.guidance,
    targets: Any = None,
    memorized: Sequence[bool | None] | None = None,
    target: str = TraceConfig.target,
    names: Sequence[str] | None = None,
    mean: Any = None,
    bank: Any = None,
    features: tuple[str, Features] | None = None,
    detectors: Sequence[str | Detector] | None = None,
    sweep: Sequence[float] = TraceConfig.sweep,
    seed: int = RunOptions.seed,
    method: str | Mapping[str, Any] | Sampler = RunOptions.method,
    spacing: str | None = None,
    clip: tuple[float, float] | None = None,
    rows: int = ROWS,
    keep_states: bool = False,
    progress: bool = False,
) -> TraceResult:
    """Sample every condition from the same seeds and measure each state.

    Args:
        run: from ``memfast.models.load_run``.
        labels: one condition each; None is one condition without a label.
        seeds: how many, or their numbers: seed k starts from the noise at address k, whatever the condition.
        steps: the sampler's.
        guidance: the scale; 1 is none. With labels, both branches are measured in any case. Also a rule of
            ``memfast.sampling`` that changes the scale along the run, or its options as ``choose_guidance`` takes them.
        targets: one training item per condition, like the training data (uint8 images) or in front of the network
            (floating); None in the place of an item leaves that condition's fields empty.
        memorized: True, False or None per condition: what is known; the detectors are judged by it.
        target: ``"train"`` measures against ``targets``, ``"final"`` against each seed's own finished sample (which is
            known only at the end: one batch's states are held in memory until then).
        names: the conditions' names; by default their labels.
        mean: ``[...]``, the mean of clean items, for the overestimation factor; by default the mean of the targets.
        bank: training items ``[N, ...]``, for nearest items and the empirical posterior (N times the work per state).
        features: (name, function of ``[n, ...]`` samples in front of the network -> ``[n, F]``): the similarity of
            samples to targets is then their cosine; by default it is minus the root mean square difference.
        detectors: names of ``memfast.detectors.DETECTORS``, or detectors; None: those that this run can feed.
        sweep: further guidance scales to run, for ``guidance_sweep``.
        seed: the seed of all noise.
        method: ``"ddim"``, ``"ddpm"`` or ``"heun"``, a dictionary with ``name`` and options, or a sampler.
        spacing: of the timesteps; by default the sampler's.
        clip: (least, greatest) value of clean estimates. By default none, also for images: clipped estimates hide
            overestimation.
        rows: conditions times seeds in a batch, at most.
        keep_states: keep every state (``TraceResult.states``).
        progress: show progress.

    Raises:
        InputError: an argument that cannot be used, a condition without a target, a target parallel to the initial
            noise, a run that diverged; the condition is named.
    """
    whole_number("rows", rows, least=1)
    config = TraceConfig(
        seeds, steps, guidance, targets, memorized, target, names, mean, bank, features, detectors, sweep, rows,
        keep_states, progress,
    )  # fmt: skip
    return trace(RunSubject(run, RunOptions(labels, seed, method, spacing, clip), config.steps), config)


def trace_pipeline(
    pipe: Any,
    *,
    prompts: Sequence[str] | torch.Tensor,
    negative: str | torch.Tensor | None = None,
    seeds: int | Sequence[int] = TraceConfig.seeds,
    steps: int = TraceConfig.steps,
    guidance: float | Guidance | Mapping[str, Any] = TraceConfig.guidance,
    guided_by: Callable[[Any, Guidance], AbstractContextManager[None]] | None = None,
    targets: Any = None,
    memorized: Sequence[bool | None] | None = None,
    target: str = TraceConfig.target,
    names: Sequence[str] | None = None,
    mean: Any = None,
    bank: Any = None,
    features: tuple[str, Features] | None = None,
    detectors: Sequence[str | Detector] | None = None,
    sweep: Sequence[float] = TraceConfig.sweep,
    height: int | None = None,
    width: int | None = None,
    rows: int | None = None,
    keep_states: bool = False,
    progress: bool = False,
    **options: Any,
) -> TraceResult:
    """Sample every prompt from the same seeds and measure each state; the pipeline is left as it was.

    Args:
        pipe: a diffusers pipeline from text to images, with one latent ``[C, H, W]`` an image and a scheduler whose
            states are ``alpha * x0 + sigma * noise``; any device and dtype (statistics are taken in float32 and
            float64).
        prompts: one condition each; or their embeddings ``[P, tokens, width]``.
        negative: the prompt of the branch without a condition; with embeddings: its embedding ``[1, tokens, width]``.
        seeds: how many, or their numbers: seed k starts, and if its scheduler draws noise goes on, as
            ``pipe(generator=torch.Generator().manual_seed(k))`` does.
        steps: the scheduler's.
        guidance: the scale. At 1 and below a pipeline asks its network for one branch only: the fields of the
            unconditional branch are None then. Also a rule of ``memfast.sampling``, with ``guided_by``.
        guided_by: puts a rule to work: ``memfast.integrations.guided_by``. The branches are measured as the network
            gives them, the guided estimate as the rule makes it.
        targets: one training item per prompt: a latent, or an image (PIL, uint8 ``[H, W, 3]``) that the pipeline's VAE
            encodes; None in the place of an item leaves that prompt's fields empty.
        memorized: as for ``trace_run``, and so are target, detectors, sweep, keep_states, progress. Detectors of
            attention are run only where they are named.
        target: see memorized.
        names: the conditions' names; by default the prompts.
        mean: a latent, or an image: the mean of clean items; by default the mean of the targets.
        bank: training items, each a latent or an image.
        features: (name, function of images uint8 ``[n, H, W, 3]`` -> ``[n, F]``): similarity is then their cosine,
            otherwise minus the root mean square difference of the latents.
        detectors: see memorized.
        sweep: see memorized.
        height: of the images; by default the network's own size.
        width: likewise.
        rows: prompts times seeds in a batch, at most; by default one prompt.
        keep_states: see memorized.
        progress: see memorized.
        options: further arguments of the pipeline's call, for example ``eta`` or ``generator``; with embeddings also
            what goes with them (pooled embeddings, attention masks), one row a prompt, or one row for all.

    Raises:
        InputError: a scheduler or a pipeline of another form, a run that starts elsewhere or ends early, a prompt
            without a target, a target parallel to the initial noise, a run that diverged; the prompt is named.
    """
    config = TraceConfig(
        seeds, steps, guidance, targets, memorized, target, names, mean, bank, features, detectors, sweep, rows,
        keep_states, progress,
    )  # fmt: skip
    return trace(
        PipelineSubject(pipe, PipelineOptions(prompts, negative, guided_by, height, width, options), config.steps),
        config,
    )
