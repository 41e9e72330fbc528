"""A trace of a diffusers pipeline: prompts times seeds, from noise to samples, with everything measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch

from memfast.detectors.attention_capture import AttentionCapture, capture_attention, prompt_tokens
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.sampling import Guidance, choose_guidance
from memfast.trace.assembling import Assembly, Conditions, Features, choose_detectors, known_labels, seed_numbers
from memfast.trace.capture import Capture, Levels, capturing, network_of
from memfast.trace.latents import Latents
from memfast.trace.observing import Observer, Probe, Watched
from memfast.trace.result import TraceResult
from memfast.trace.targets import centre_of, check_targets, described, stacked_targets, sweep_entry

# A pipeline that is guided by a rule must ask for both branches, whatever the rule's scale.
LEAST_SCALE = 2.0


def trace_pipeline(
    pipe: Any,
    *,
    prompts: Sequence[str] | torch.Tensor,
    negative: str | torch.Tensor | None = None,
    seeds: int | Sequence[int] = 10,
    steps: int = 50,
    guidance: float | Guidance | Mapping[str, Any] = 7.5,
    guided_by: Callable[[Any, Guidance], AbstractContextManager[None]] | None = None,
    targets: Any = None,
    memorized: Sequence[bool | None] | None = None,
    target: str = "train",
    names: Sequence[str] | None = None,
    mean: Any = None,
    bank: Any = None,
    features: tuple[str, Features] | None = None,
    detectors: Sequence[str] | None = None,
    sweep: Sequence[float] = (),
    height: int | None = None,
    width: int | None = None,
    rows: int | None = None,
    keep_states: bool = False,
    progress: bool = False,
    **options: Any,
) -> TraceResult:
    """Sample every prompt from the same seeds and measure each state; the pipeline is left as it was.

    Args:
        pipe: a diffusers pipeline with a U-Net (or transformer) and a scheduler whose states are
            ``alpha * x0 + sigma * noise``; any device and dtype (statistics are taken in float32 and float64).
        prompts: one condition each; or their embeddings ``[P, tokens, width]``.
        negative: the prompt of the branch without a condition; with embeddings: its embedding ``[1, tokens, width]``.
        seeds: how many, or their numbers: seed k starts as ``pipe(generator=torch.Generator().manual_seed(k))`` does.
        steps: the scheduler's.
        guidance: the scale. At 1 and below a pipeline asks its network for one branch only: the fields of the
            unconditional branch are None then. Also a rule of ``memfast.sampling``, with ``guided_by``.
        guided_by: puts a rule to work: ``memfast.integrations.guided_by``. The branches are measured as the network
            gives them, the guided estimate as the rule makes it.
        targets: one training item per prompt: a latent, or an image (PIL, uint8 ``[H, W, 3]``) that the pipeline's VAE
            encodes; None in the place of an item leaves that prompt's fields empty.
        memorized, target, mean, bank, detectors, sweep, keep_states, progress: as for ``trace_run``; ``mean`` and
            ``bank`` are latents. Detectors of attention are run only where they are named.
        names: the conditions' names; by default the prompts.
        features: (name, function of images uint8 ``[n, H, W, 3]`` -> ``[n, F]``): similarity is then their cosine,
            otherwise minus the root mean square difference of the latents.
        height, width: of the images; by default the network's own size.
        rows: prompts times seeds in a batch, at most; by default one prompt.
        options: further arguments of the pipeline's call.

    Raises:
        InputError: a scheduler of another form, a prompt without a target, a target parallel to the initial noise, a
            run that diverged; the prompt is named.
    """
    for what, value in (("rows", rows), ("height", height), ("width", width)):
        if value is not None:
            whole_number(what, value, least=1)
    flow = Levels(pipe.scheduler).flow
    total = None if flow else pipe.scheduler.config.get("num_train_timesteps")
    whole_number("steps", steps, least=1, greatest=total)
    latents = Latents(pipe, height, width)
    embedded = isinstance(prompts, torch.Tensor)
    if not len(prompts) or isinstance(prompts, str):
        raise InputError("prompts", expected="a list of prompts", received=repr(prompts)[:80])
    called = [str(name) for name in (names or ([f"prompt {k}" for k in range(len(prompts))] if embedded else prompts))]
    if len(called) != len(prompts):
        raise InputError("names", expected=f"{len(prompts)}, one per prompt", received=str(len(called)))
    numbers = seed_numbers(seeds, len(prompts))
    items = [
        None if item is None else latents.encode(f"target of {name!r}", item)
        for item, name in zip(check_targets(targets, called, target), called, strict=True)
    ]
    stacked, has = stacked_targets(items)
    conditions = Conditions(called, numbers, None, known_labels(memorized, len(called)), stacked, has, target)
    centre = centre_of(conditions) if mean is None else latents.encode("mean", mean)
    clean = None if bank is None else torch.stack([latents.encode("bank", item) for item in bank])
    wanted = choose_guidance(guidance)
    sweep = [cast(float, choose_guidance(scale)) for scale in sweep]
    rule = None if isinstance(wanted, float | int) else wanted
    if rule is not None and guided_by is None:
        raise InputError("guided_by", expected="memfast.integrations.guided_by, for a rule", received="None")
    largest = wanted if isinstance(wanted, float | int) else max(LEAST_SCALE, getattr(wanted, "after", LEAST_SCALE))
    guided = largest > 1.0
    chosen = choose_detectors(
        detectors, branches=guided, seeds=len(numbers), bank=0 if clean is None else len(clean),
        attention=hasattr(pipe, "unet"),
    )  # fmt: skip
    live = {name: one for name, one in chosen.items() if not one.needs_distances}
    late = {name: one for name, one in chosen.items() if one.needs_distances}
    tokens = None
    if any(one.needs_attention for one in live.values()):
        if embedded:
            raise InputError(
                "prompts", expected="texts, for detectors of attention: they count tokens", received="embeddings"
            )
        tokens = prompt_tokens(pipe, cast(Sequence[str], prompts)).tolist()
    noise = latents.initial(numbers)

    def watch(first: int, part: Conditions, scale: float, found: dict[str, Any], *, whole: bool) -> Watched:
        count = len(part.names)
        attended = whole and tokens is not None
        watching: Any = capture_attention(pipe.unet, guided=False) if attended else nullcontext(AttentionCapture())
        with watching as maps:
            attention = (lambda: [layer[-count * len(numbers) :] for layer in maps.layers]) if attended else None
            observer = Observer(
                part.names, numbers, part.targets, part.has_target, centre, final=target == "final",
                bank=clean if whole else None, detectors=found, keep_states=keep_states and whole,
                tokens=None if tokens is None else tokens[first : first + count], attention=attention,
            )  # fmt: skip
            # The rule comes behind the capture, which sees the branches before it changes one of them.
            guiding = guided_by(pipe, rule) if whole and rule is not None and guided_by is not None else nullcontext()
            with capturing(pipe, count * len(numbers), observer) as capture, guiding, _quiet(pipe):
                observer.probe = _probe(capture, scale) if whole else None
                pipe(
                    **_prompts(prompts, negative, first, count, len(numbers)), latents=noise.repeat(count, 1, 1, 1),
                    num_inference_steps=steps, guidance_scale=scale, height=latents.size[0], width=latents.size[1],
                    output_type="latent", **options,
                )  # fmt: skip
                capture.close()
        return observer.result()

    at_once = max(1, (rows or len(numbers)) // len(numbers))
    starts = range(0, len(called), at_once)
    decoded = None if features is None else (features[0], lambda samples: features[1](latents.decode(samples)))
    assembly, swept = Assembly(conditions, clean, decoded, late), []
    with Progress("tracing", len(called) * (1 + len(sweep)), "prompts", show=progress) as bar:
        for first in starts:
            part = conditions.part(slice(first, first + at_once))
            assembly.add(watch(first, part, largest, live, whole=True), part)
            bar.advance(len(part.names))
        for scale in sweep:
            small = Assembly(conditions, None, decoded)
            for first in starts:
                part = conditions.part(slice(first, first + at_once))
                small.add(watch(first, part, scale, {}, whole=False), part)
                bar.advance(len(part.names))
            swept.append(sweep_entry(scale, small))
    network: Any = network_of(pipe)
    source = {
        "name": str(pipe.config.get("_name_or_path") or type(pipe).__name__), "family": "diffusers",
        "pipeline": type(pipe).__name__, "network": type(network).__name__, "dtype": str(network.dtype),
        "prediction_type": Levels(pipe.scheduler).prediction_type, "item_shape": list(latents.shape),
    }  # fmt: skip
    sampler = {"method": type(pipe.scheduler).__name__, "steps": steps, "guidance": described(wanted)}
    return assembly.result(source, sampler, swept or None)


def _prompts(prompts: Any, negative: Any, first: int, count: int, seeds: int) -> dict[str, Any]:
    """The pipeline's arguments for some of the prompts, each for every seed."""
    if isinstance(prompts, torch.Tensor):
        given: dict[str, Any] = {"prompt_embeds": prompts[first : first + count].repeat_interleave(seeds, 0)}
        if negative is not None:
            given["negative_prompt_embeds"] = negative.expand(count * seeds, *negative.shape[1:])
        return given
    texts = [text for text in prompts[first : first + count] for _ in range(seeds)]
    return {"prompt": texts} | ({} if negative is None else {"negative_prompt": [negative] * len(texts)})


def _probe(capture: Capture, scale: float) -> Probe:
    found = capture.probe()
    return found if scale > 1.0 else Probe(found.conditional)


@contextmanager
def _quiet(pipe: Any) -> Iterator[None]:
    """No progress bar of the pipeline's own."""
    before = getattr(pipe, "_progress_bar_config", None)
    pipe.set_progress_bar_config(**{**(before or {}), "disable": True})
    try:
        yield
    finally:
        if before is None:
            del pipe._progress_bar_config
        else:
            pipe._progress_bar_config = before
