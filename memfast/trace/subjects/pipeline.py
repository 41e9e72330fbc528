"""A diffusers pipeline as the subject of a trace."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from memfast.detectors import Detector, WatchedRun
from memfast.detectors.attention_capture import AttentionCapture, capture_attention, prompt_tokens
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.results.trace import PipelineSource, TraceSampler
from memfast.sampling import Guidance
from memfast.schedules.diffusers import SchedulerLevels
from memfast.trace.config import ConditionSet, Features, TraceConfig, condition_set
from memfast.trace.describing import described_guidance
from memfast.trace.measure import BatchObserver
from memfast.trace.subjects.latents import Latents
from memfast.trace.subjects.watching import network_of, watching

# A pipeline that is guided by a rule must ask for both branches, whatever the rule's scale.
LEAST_SCALE = 2.0
# What a pipeline must take, so that prompts and seeds can be given to it.
NEEDED = ("latents", "guidance_scale", "num_inference_steps", "height", "width", "output_type")
SUPPORTED = (
    "a text-to-image pipeline with one latent [C, H, W] an image: Stable Diffusion 1, 2, XL, 3, PixArt, Sana, LCM, ..."
)
OTHERWISE = (
    "Record its states yourself (callback_on_step_end) and use memfast.trace.decompose; a UNet2DModel can be sampled "
    "with memfast.sampling."
)


@dataclass(frozen=True, eq=False)
class PipelineOptions:
    """What a trace of a pipeline is asked for besides ``TraceConfig``.

    Args:
        prompts: one condition each; or their embeddings ``[P, tokens, width]``.
        negative: the prompt of the branch without a condition; with embeddings: its embedding ``[1, tokens, width]``.
        guided_by: puts a guidance rule to work: ``memfast.integrations.guided_by``.
        height: of the images; by default the network's own size.
        width: likewise.
        call: further arguments of the pipeline's call.
    """

    prompts: Sequence[str] | torch.Tensor
    negative: str | torch.Tensor | None = None
    guided_by: Callable[[Any, Guidance], AbstractContextManager[None]] | None = None
    height: int | None = None
    width: int | None = None
    call: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, value in (("height", self.height), ("width", self.width)):
            if value is not None:
                whole_number(what, value, least=1)


class PipelineSubject:
    """A pipeline, to be traced with ``memfast.trace.session.trace``; it is left as it was.

    Args:
        pipe: the pipeline.
        options: how to call it.
        steps: the scheduler's.

    Raises:
        InputError: a scheduler or a pipeline of another form, or arguments that a trace sets itself.
    """

    noun = "prompts"

    def __init__(self, pipe: Any, options: PipelineOptions, steps: int) -> None:
        levels = SchedulerLevels(pipe.scheduler)
        total = None if levels.flow else pipe.scheduler.config.get("num_train_timesteps")
        whole_number("steps", steps, least=1, greatest=total)
        self.parameters = check_pipeline(pipe)
        self.pipe, self.options, self.steps, self.prediction_type = pipe, options, steps, levels.prediction_type
        self.latents = Latents(pipe, options.height, options.width)
        self.embedded = isinstance(options.prompts, torch.Tensor)
        self.tokens: list[int] | None = None
        self._check_call()

    def conditions(self, config: TraceConfig) -> ConditionSet:
        """The conditions, checked, with their targets in front of the network."""
        prompts = self.options.prompts
        if not len(prompts) or isinstance(prompts, str):
            raise InputError("prompts", expected="a list of prompts", received=repr(prompts)[:80])
        texts = [f"prompt {k}" for k in range(len(prompts))] if self.embedded else prompts
        names = [str(name) for name in (config.names or texts)]
        if len(names) != len(prompts):
            raise InputError("names", expected=f"{len(prompts)}, one per prompt", received=str(len(names)))
        conditions = condition_set(config, names, None, self.latents.encode)
        guidance, _ = config.guidances()
        if not isinstance(guidance, float | int) and self.options.guided_by is None:
            raise InputError("guided_by", expected="memfast.integrations.guided_by, for a rule", received="None")
        return conditions

    def encode(self, what: str, items: Any) -> torch.Tensor:
        """Latents of several latents or images, or of one alone."""
        if hasattr(items, "convert") or (hasattr(items, "ndim") and items.ndim == len(self.latents.shape)):
            return self.latents.encode(what, items)[None]
        return torch.stack([self.latents.encode(what, item) for item in items])

    def offers(self, conditions: ConditionSet, guidance: float | Guidance) -> WatchedRun:
        """Both branches above guidance 1; attention where there is a U-Net."""
        return WatchedRun(branches=largest_scale(guidance) > 1.0, attention=hasattr(self.pipe, "unet"))

    def prepare(self, detectors: dict[str, Detector]) -> None:
        """Count the prompts' tokens, for detectors of attention."""
        if any(one.needs_attention for one in detectors.values()):
            if self.embedded:
                expected = "texts, for detectors of attention: they count tokens"
                raise InputError("prompts", expected=expected, received="embeddings")
            self.tokens = prompt_tokens(self.pipe, cast(Sequence[str], self.options.prompts)).tolist()

    def rows_at_once(self, config: TraceConfig) -> int:
        """By default one prompt."""
        return config.rows or 1

    def draw(self, part: ConditionSet, guidance: float | Guidance, observer: BatchObserver, *, in_full: bool) -> None:
        """Call the pipeline for some prompts and show every state to ``observer``."""
        noise, generators = self.latents.initial(part.seeds * len(part.names))
        number = isinstance(guidance, float | int)
        guided_by = self.options.guided_by
        attended = in_full and self.tokens is not None
        attention: Any = capture_attention(self.pipe.unet, guided=False) if attended else nullcontext(None)
        with attention as maps:
            # The rule comes behind the capture, which sees the branches before it changes one of them.
            rule = nullcontext() if number or guided_by is None else guided_by(self.pipe, cast(Guidance, guidance))
            scale = float(cast(float, guidance)) if number else None
            with watching(self.pipe, noise, observer, scale) as watch, rule, _quiet(self.pipe):
                if in_full:
                    observer.network = watch
                if maps is not None and self.tokens is not None:
                    observer.tokens = self.tokens[part.first : part.first + len(part.names)]
                    observer.attention = lambda: _with_prompt(maps, part.rows)
                self.pipe(**self._arguments(part, noise, generators, largest_scale(guidance)))
                watch.close()

    def sample_features(self, features: tuple[str, Features] | None) -> tuple[str, Features] | None:
        """Features of images, as a function of latents."""
        if features is None:
            return None
        name, extract = features
        return name, lambda samples: extract(self.latents.decode(samples))

    def source(self) -> PipelineSource:
        """What is traced, for the result."""
        network: Any = network_of(self.pipe)
        return PipelineSource(
            str(self.pipe.config.get("_name_or_path") or type(self.pipe).__name__), "diffusers", self.prediction_type,
            self.latents.shape, type(self.pipe).__name__, type(network).__name__, str(network.dtype),
        )  # fmt: skip

    def sampler(self, config: TraceConfig, conditions: ConditionSet, guidance: float | Guidance) -> TraceSampler:
        """How it samples, for the result."""
        name = type(self.pipe.scheduler).__name__
        return TraceSampler(
            name, config.steps, described_guidance(guidance), tuple(conditions.seeds), config.target
        )  # fmt: skip

    def _arguments(
        self, part: ConditionSet, noise: torch.Tensor, generators: list[torch.Generator], scale: float
    ) -> dict[str, Any]:
        """The pipeline's arguments for some of the prompts, each for every seed."""
        own: dict[str, Any] = {
            "latents": noise, "num_inference_steps": self.steps, "guidance_scale": scale,
            "height": self.latents.size[0], "width": self.latents.size[1], "output_type": "latent",
        }  # fmt: skip
        if "generator" in self.parameters:
            own["generator"] = generators
        prompts, negative = self.options.prompts, self.options.negative
        chosen, seeds = slice(part.first, part.first + len(part.names)), len(part.seeds)
        if isinstance(prompts, torch.Tensor):
            own["prompt_embeds"] = prompts[chosen].repeat_interleave(seeds, 0)
            if isinstance(negative, torch.Tensor):
                own["negative_prompt_embeds"] = negative.expand(part.rows, *negative.shape[1:])
            if "negative_prompt" in self.parameters:
                # PixArt's and Sana's default is an empty text, which cannot stand beside an embedding.
                own["negative_prompt"] = None
        else:
            own["prompt"] = [text for text in prompts[chosen] for _ in range(seeds)]
            if negative is not None:
                own["negative_prompt"] = [negative] * part.rows
        return {**own, **{name: self._per_row(name, value, part) for name, value in self.options.call.items()}}

    def _per_row(self, name: str, value: Any, part: ConditionSet) -> Any:
        """What goes with embedded prompts (pooled embeddings, masks), one per prompt or one for all, for each seed."""
        if not self.embedded or not isinstance(value, torch.Tensor) or "prompt" not in name:
            return value
        if len(value) == len(self.options.prompts):
            return value[part.first : part.first + len(part.names)].repeat_interleave(len(part.seeds), 0)
        return value.expand(part.rows, *value.shape[1:]) if len(value) == 1 else value

    def _check_call(self) -> None:
        pooled = "pooled_prompt_embeds"
        if self.embedded and pooled in self.parameters and pooled not in self.options.call:
            raise InputError(
                pooled, expected=f"beside embedded prompts, as {type(self.pipe).__name__} needs them", received="none",
                do="Give what encode_prompt gives, one row a prompt, or give the prompts as texts.",
            )  # fmt: skip
        own = {*NEEDED, "prompt", "prompt_embeds", "negative_prompt", "negative_prompt_embeds"}
        for name in self.options.call:
            if name in own:
                raise InputError(name, expected="none: a trace sets it", received="one", do="See trace_pipeline.")
            if name == "num_images_per_prompt" and self.options.call[name] != 1:
                received = repr(self.options.call[name])
                raise InputError(name, expected="1: each seed is an image", received=received, do="Give more seeds.")
            if name not in self.parameters:
                raise InputError(
                    name, expected=f"an argument of {type(self.pipe).__name__}", received="another one"
                )  # fmt: skip


def check_pipeline(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline's call, if it is of the form that can be traced.

    Raises:
        InputError: it is not.
    """
    parameters = dict(inspect.signature(type(pipe).__call__).parameters)
    parameters.pop("self", None)
    lacking = [name for name in ("prompt", *NEEDED) if name not in parameters]
    required = [name for name, one in parameters.items() if one.default is inspect.Parameter.empty and name != "prompt"]
    required = [name for name in required if parameters[name].kind is not inspect.Parameter.VAR_KEYWORD]
    why = (
        f"whose call takes no {', '.join(lacking)}" if lacking
        else f"whose call also needs {', '.join(required)}" if required
        else "of videos" if "num_frames" in parameters
        else "whose latents are packed" if hasattr(pipe, "_pack_latents")
        else "that starts from an image" if "strength" in parameters or "mask_image" in parameters
        else _unknown_shape(network_of(pipe))
    )  # fmt: skip
    if why is not None:
        raise InputError("pipe", expected=SUPPORTED, received=f"{type(pipe).__name__}, {why}", do=OTHERWISE)
    return parameters


def _unknown_shape(network: Any) -> str | None:
    """What a network does not say of its items, or None."""
    size, channels = (network.config.get(name) for name in ("sample_size", "in_channels"))
    two_sides = isinstance(size, list | tuple) and len(size) == 2
    known = isinstance(channels, int) and (isinstance(size, int) or two_sides)
    return None if known else "whose network does not say the sample_size and in_channels of an image"


def image_size(pipe: Any) -> tuple[int, int]:
    """(height, width) of the images of a pipeline that can be traced, by default.

    Raises:
        InputError: it cannot.
    """
    SchedulerLevels(pipe.scheduler)
    check_pipeline(pipe)
    return Latents(pipe).size


def largest_scale(guidance: float | Guidance) -> float:
    """The scale that a pipeline is called with: its own, or one that makes it ask for both branches."""
    if isinstance(guidance, float | int):
        return guidance
    return float(max(LEAST_SCALE, getattr(guidance, "after", LEAST_SCALE)))


def _with_prompt(maps: AttentionCapture, rows: int) -> list[torch.Tensor]:
    """The attention of the branch with the prompts, which comes last."""
    return [layer[-rows:] for layer in maps.layers]


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
