"""A trace of a trained run of memfast: conditions times seeds, from noise to samples, with everything measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from memfast.foundation.arguments import seed_number, whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.models import Run
from memfast.sampling import Denoiser, Guidance, choose_guidance, ddim, ddpm, heun, levels
from memfast.trace.assembling import Assembly, Conditions, Features, choose_detectors, known_labels, seed_numbers
from memfast.trace.observing import Observer, Probe, Watched
from memfast.trace.result import TraceResult
from memfast.trace.targets import centre_of, check_targets, described, stacked_targets, sweep_entry

ROWS = 400
# What target="final" may hold of one batch: five tensors per state.
HELD_BYTES = 1 << 30
METHODS = {"ddim": ddim, "ddpm": ddpm, "heun": heun}


def trace_run(
    run: Run,
    *,
    labels: Sequence[int] | None,
    seeds: int | Sequence[int] = 10,
    steps: int = 50,
    guidance: float | Guidance | Mapping[str, Any] = 7.5,
    targets: Any = None,
    memorized: Sequence[bool | None] | None = None,
    target: str = "train",
    names: Sequence[str] | None = None,
    mean: Any = None,
    bank: Any = None,
    features: tuple[str, Features] | None = None,
    detectors: Sequence[str] | None = None,
    sweep: Sequence[float] = (),
    seed: int = 0,
    method: str = "ddim",
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
        detectors: names of ``memfast.detectors.DETECTORS``; None: those that this run can feed.
        sweep: further guidance scales to run, for ``guidance_sweep``.
        seed: the seed of all noise.
        method: ``"ddim"``, ``"ddpm"`` or ``"heun"``.
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
    rows, seed = whole_number("rows", rows, least=1), seed_number("seed", seed)
    levels(run.schedule, steps)
    conditions = _conditions(run, labels, seeds, targets, memorized, target, names)
    guide = choose_guidance(guidance)
    sweep = [cast(float, choose_guidance(scale)) for scale in sweep]
    if conditions.labels is None and guide != 1.0:
        raise InputError("guidance", expected="1 without labels", received=str(guidance))
    if conditions.labels is None and sweep:
        raise InputError("sweep", expected="none without labels: there is nothing to guide", received=str(list(sweep)))
    if method not in METHODS:
        raise InputError("method", expected="one of " + ", ".join(METHODS), received=repr(method))
    clean = None if bank is None else _items(run, "bank", bank)
    centre = centre_of(conditions) if mean is None else _items(run, "mean", mean)[0]
    device = next(run.model.parameters()).device
    spacing = spacing or ("karras" if method == "heun" else "trailing")

    def watch(part: Conditions, scale: float | Guidance, chosen: dict[str, Any], *, whole: bool) -> Watched:
        observer = Observer(
            part.names, part.seeds, part.targets, part.has_target, centre, final=part.target == "final",
            bank=clean if whole else None, detectors=chosen, keep_states=keep_states and whole,
            probe=_probe(run, part, steps, spacing, device) if whole else None,
            both_branches=part.labels is not None and whole,
        )  # fmt: skip
        ids = torch.tensor(part.seeds).repeat(len(part.names))
        repeated = None if part.labels is None else torch.tensor(part.labels).repeat_interleave(len(part.seeds))
        METHODS[method](
            run.model, run.schedule, shape=run.item_shape, sample_ids=ids, labels=repeated, guidance=scale, steps=steps,
            seed=seed, spacing=spacing, clip=clip, prediction_type=run.prediction_type, sigma_data=run.sigma_data,
            batch_size=len(ids), callback=observer, device=device,
        )  # fmt: skip
        return observer.result()

    count = _conditions_at_once(run, conditions, steps, rows)
    parts = list(_parts(conditions, count))
    chosen = choose_detectors(
        detectors, branches=conditions.labels is not None, seeds=len(conditions.seeds),
        bank=0 if clean is None else len(clean),
    )  # fmt: skip
    late = {name: one for name, one in chosen.items() if one.needs_distances}
    live = {name: one for name, one in chosen.items() if not one.needs_distances}
    assembly = Assembly(conditions, clean, features, late)
    swept = []
    with Progress("tracing", len(conditions.names) * (1 + len(sweep)), "conditions", show=progress) as bar:
        for part in parts:
            assembly.add(watch(part, guide, live, whole=True), part)
            bar.advance(len(part.names))
        for scale in sweep:
            small = Assembly(conditions, None, features)
            for part in parts:
                small.add(watch(part, scale, {}, whole=False), part)
                bar.advance(len(part.names))
            swept.append(sweep_entry(scale, small))
    source = {
        "name": run.folder.name, "family": "memfast", "step": run.step, "weights": run.weights,
        "prediction_type": run.prediction_type, "item_shape": list(run.item_shape), "schedule": run.schedule.name,
    }  # fmt: skip
    sampler = {
        "method": method, "steps": steps, "guidance": described(guide), "seed": seed, "spacing": spacing,
        "clip": None if clip is None else list(clip),
    }  # fmt: skip
    return assembly.result(source, sampler, swept or None)


def _conditions(run: Run, labels: Any, seeds: Any, targets: Any, memorized: Any, target: str, names: Any) -> Conditions:
    if labels is not None and run.num_classes is None:
        raise InputError("labels", expected="None: the run has no classes", received="labels")
    given = None if labels is None else np.asarray(labels).reshape(-1).tolist()
    classes = range(int(run.num_classes or 0))
    if given is not None and (not given or not all(one in classes for one in given)):
        raise InputError("labels", expected=f"labels from 0 to {len(classes) - 1}", received=str(given))
    own = None if given is None else [int(one) for one in given]
    count = 1 if own is None else len(own)
    called = ["unconditional"] if own is None else [str(label) for label in own]
    called = called if names is None else [str(name) for name in names]
    if len(called) != count:
        raise InputError("names", expected=f"{count}, one per condition", received=str(len(called)))
    found = check_targets(targets, called, target)
    items = [
        None if item is None else _items(run, f"target of {name!r}", item)[0]
        for item, name in zip(found, called, strict=True)
    ]
    stacked, has = stacked_targets(items)
    return Conditions(called, seed_numbers(seeds, count), own, known_labels(memorized, count), stacked, has, target)


def _items(run: Run, what: str, items: Any) -> torch.Tensor:
    """``[n, *item_shape]`` float32, of items like the training data or in front of the network, or of one alone."""
    found = torch.as_tensor(np.asarray(items) if not isinstance(items, torch.Tensor) else items)
    own, data = tuple(run.item_shape), tuple(run.format.data_shape)
    for whole in (found[None], found):
        if tuple(whole.shape[1:]) == own and found.is_floating_point():
            return whole.float()
        if tuple(whole.shape[1:]) == data and str(found.dtype).removeprefix("torch.") == run.format.data_dtype:
            return run.format.to_network(whole)
    raise InputError(
        what, expected=f"{run.format.data_dtype} items {data} or floating items {own}",
        received=f"{found.dtype} {list(found.shape)}",
    )  # fmt: skip


def _conditions_at_once(run: Run, conditions: Conditions, steps: int, rows: int) -> int:
    numel, seeds = int(np.prod(run.item_shape)), len(conditions.seeds)
    if conditions.target == "final":
        rows = min(rows, HELD_BYTES // (4 * 5 * numel * (steps + 1)))
    return max(1, rows // seeds)


def _parts(conditions: Conditions, count: int) -> Iterator[Conditions]:
    for start in range(0, len(conditions.names), count):
        yield conditions.part(slice(start, start + count))


def _probe(run: Run, part: Conditions, steps: int, spacing: str, device: torch.device) -> Probe | None:
    if part.labels is None:
        return None
    denoiser = Denoiser(run.model, run.prediction_type, 1.0, None, run.sigma_data, both_branches=True)
    repeated = torch.tensor(part.labels).repeat_interleave(len(part.seeds)).to(device)
    visited = levels(run.schedule, steps, spacing)

    def conditional(x: torch.Tensor, step: Any) -> torch.Tensor:
        return cast(torch.Tensor, denoiser.estimates(x, visited[step.index], repeated).conditional)

    def difference(x: torch.Tensor, step: Any) -> torch.Tensor:
        found = denoiser.estimates(x, visited[step.index], repeated)
        return cast(torch.Tensor, found.conditional) - cast(torch.Tensor, found.unconditional)

    return Probe(conditional, difference)
