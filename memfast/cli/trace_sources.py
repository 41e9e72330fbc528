"""What ``memfast trace`` can follow: a run of ``memfast train``, or a diffusers pipeline in a folder."""

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memfast.foundation.errors import InputError, MissingPackageError, first_line

RUN_FILE, PIPELINE_FILE = "run.json", "model_index.json"
DTYPES = ("float32", "float16", "bfloat16")
# Whose classes a pipeline may be made of: their code is installed, none of it comes from the folder.
LIBRARIES = ("diffusers", "transformers")
RULES = ("delayed", "opposite", "dynamic")
OPPOSITE, UNTIL = -2.0, 0.65


def kind_of(folder: Path) -> str:
    """``"run"`` or ``"pipeline"``.

    Raises:
        InputError: a folder that is neither, or none.
    """
    if (folder / PIPELINE_FILE).is_file():
        return "pipeline"
    if (folder / RUN_FILE).is_file():
        return "run"
    there = "a file" if folder.is_file() else "neither" if folder.is_dir() else "nothing there"
    raise InputError(
        str(folder), expected=f"a run's folder with {RUN_FILE} or a diffusers pipeline's with {PIPELINE_FILE}",
        received=there,
    )  # fmt: skip


def load_pipeline(
    folder: Path, *, method: str | None, device: str | None, dtype: str, variant: str | None = None
) -> Any:
    """A diffusers pipeline from a folder: without network, pickles, or code from the folder.

    Args:
        folder: it holds model_index.json.
        method: ``ddim`` puts a DDIM scheduler in the place of the pipeline's; ``own`` leaves it; None: DDIM where the
            pipeline's scheduler uses betas.
        device: None: the CPU.
        dtype: one of ``DTYPES``.
        variant: of the weights' files: ``fp16`` for ``*.fp16.safetensors``.

    Raises:
        InputError: a pipeline that cannot be loaded so.
        MissingPackageError: diffusers is not installed.
    """
    from memfast.schedules.diffusers import is_flow

    if dtype not in DTYPES:
        raise InputError("--dtype", expected="one of " + ", ".join(DTYPES), received=repr(dtype))
    if method not in (None, "ddim", "own"):
        raise InputError("--method", expected="ddim or own, for a pipeline", received=repr(method))
    try:
        import torch
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise MissingPackageError("diffusers", purpose="tracing a pipeline", extra="all") from error
    index = _check_index(folder)
    # What a trace does not need, and what the folder itself was saved without (Stable Diffusion 3 without T5).
    unneeded: dict[str, None] = {
        name: None for name in ("safety_checker", "feature_extractor", "image_encoder") if name in index
    }
    unneeded |= {name: None for name, part in index.items() if part == [None, None]}
    try:
        with _silent():
            pipe = DiffusionPipeline.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, variant=variant, **unneeded
            )
            pipe = pipe.to(device or "cpu", getattr(torch, dtype))
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise InputError(
            str(folder), expected="a pipeline saved by diffusers", received=first_line(error),
            do=_variants_there(folder) if variant is None else "",
        ) from error  # fmt: skip
    flow = is_flow(pipe.scheduler)
    if method == "ddim" and flow:
        received = f"a pipeline of flow matching ({type(pipe.scheduler).__name__})"
        raise InputError("--method ddim", expected="a pipeline with betas", received=received, do="Use --method own.")
    if method == "ddim" or (method is None and "beta_start" in pipe.scheduler.config and not flow):
        pipe.scheduler = ddim_scheduler(pipe.scheduler)
    return pipe


def ddim_scheduler(scheduler: Any) -> Any:
    """DDIM on the schedule of another scheduler, which clips clean estimates only if that one does.

    ``DDIMScheduler.from_config`` alone would clip where the configuration does not say, as it does not for schedulers
    that never clip; latents are far larger than 1.
    """
    from diffusers import DDIMScheduler

    own = inspect.signature(type(scheduler).__init__).parameters
    kept = {name: name in own and bool(scheduler.config.get(name, False)) for name in ("clip_sample", "thresholding")}
    return DDIMScheduler.from_config(scheduler.config, **kept)


def _variants_there(folder: Path) -> str:
    """The advice to name a variant, where the folder has its weights under one only."""
    names = {path.name for path in folder.glob("*/*.safetensors")}
    found = sorted({name.split(".")[-2] for name in names if name.count(".") > 1})
    return f"Its weights are there as --variant {' or '.join(found)}." if found else ""


def usable_device(name: str | None) -> None:
    """Check that PyTorch can use the device of this name here; None is the CPU.

    Raises:
        InputError: it cannot.
    """
    import torch

    try:
        torch.zeros(1, device=name or "cpu").tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        received = f"{name} ({first_line(error)})"
        raise InputError("--device", expected="a device that PyTorch can use here", received=received) from error


def rule_of(name: str | None, guidance: float, until: float | None) -> Any:
    """The guidance as ``trace_run`` takes it: a number, or the options of a rule.

    Raises:
        InputError: an unknown rule, or an end of the delay where there is no delay.

    >>> rule_of("opposite", 7.5, None)
    {'name': 'delayed', 'until': 0.65, 'scale': 7.5, 'before': -2.0}
    """
    if name is not None and name not in RULES:
        raise InputError("--guidance-rule", expected="one of " + ", ".join(RULES), received=repr(name))
    if name not in ("delayed", "opposite"):
        if until is not None:
            raise InputError(
                "--until", expected="--guidance-rule delayed or opposite beside it", received=name or "no rule"
            )
        return guidance if name is None else {"name": "dynamic", "scale": guidance}
    point = UNTIL if until is None else until
    if point > 1:
        if point != int(point):
            raise InputError("--until", expected="a share from 0 to 1, or a whole timestep", received=str(until))
        point = int(point)
    return {"name": "delayed", "until": point, "scale": guidance, "before": OPPOSITE if name == "opposite" else 0.0}


def features_of(
    name: str | None, device: str | None, to_items: Callable[[Any], Any]
) -> tuple[str, Callable[[Any], Any]] | None:
    """(name, function) of the extractor, as a trace takes it; None for pixels.

    Args:
        name: as ``memfast.features.open_extractor`` takes it, or ``pixels`` or None.
        device: where it runs.
        to_items: brings samples to items like the data.
    """
    if name in (None, "pixels"):
        return None
    from memfast.features import open_extractor

    extractor = open_extractor(name, device=device)
    return extractor.name, lambda samples: extractor(to_items(samples))


def numbers(option: str, text: str | None, kind: type = float) -> list[Any]:
    """Numbers separated by commas.

    Raises:
        InputError: something else.

    >>> numbers("--sweep", "1,3,7.5")
    [1.0, 3.0, 7.5]
    """
    if text is None:
        return []
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError as error:
        words = "whole numbers" if kind is int else "numbers"
        raise InputError(option, expected=f"{words} separated by commas", received=repr(text)) from error


def seeds_of(text: str) -> int | Sequence[int]:
    """A count, or the seeds' own numbers if there is a comma.

    >>> seeds_of("8"), seeds_of("3,5")
    (8, [3, 5])
    """
    found = numbers("--seeds", text.rstrip(","), int)
    return found[0] if len(found) == 1 and "," not in text else found


@contextmanager
def _silent() -> Iterator[None]:
    """Without the loaders' own progress and advice, which a pipe would be full of."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = [(one, one.get_verbosity()) for one in (of_diffusers, of_transformers)]
    for one, _ in before:
        one.disable_progress_bar()
        one.set_verbosity_error()
    try:
        yield
    finally:
        for one, verbosity in before:
            one.enable_progress_bar()
            one.set_verbosity(verbosity)


def _check_index(folder: Path) -> dict[str, Any]:
    path = folder / PIPELINE_FILE
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(str(path), expected="the index of a diffusers pipeline", received=first_line(error)) from error
    if not isinstance(index, dict):
        raise InputError(str(path), expected="the index of a diffusers pipeline", received=type(index).__name__)
    if not isinstance(index.get("_class_name"), str):
        raise InputError(str(path), expected="a pipeline class of diffusers", received=repr(index.get("_class_name")))
    for name, part in index.items():
        known = not isinstance(part, list) or (len(part) == 2 and (part[0] is None or _installed(part[0])))
        if not name.startswith("_") and not known:
            raise InputError(
                f"{path}, {name}", expected="a class of " + " or ".join(LIBRARIES), received=repr(part),
                do="Code that comes with a pipeline is never run.",
            )  # fmt: skip
    return index


def _installed(library: Any) -> bool:
    """Whether a part's library is one of ``LIBRARIES``, or the module of a pipeline within diffusers."""
    if library in LIBRARIES:
        return True
    return (
        isinstance(library, str) and library.isidentifier() and find_spec(f"diffusers.pipelines.{library}") is not None
    )
