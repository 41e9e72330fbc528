"""The files that memfast writes and reads again, each with a reader that gives a value to compare."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Kind:
    """A folder of ours and how it is read.

    Attributes:
        name: what it is.
        write: makes the folder.
        read: reads it; gives a value that ``repr`` shows whole.
        sealed: a checksum protects these files: what is read from a changed one is the old value, or an error.
    """

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    sealed: tuple[str, ...] = ()


def _numbers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    training = random.integers(0, 256, (120, 6, 6), dtype=np.uint8)
    return np.concatenate([training[:3] ^ 1, random.integers(0, 256, (17, 6, 6), dtype=np.uint8)]), training


def _write_audit(folder: Path) -> None:
    import memfast

    memfast.audit(*_numbers(), k=5, controls=False, progress=False).save(folder)


def _read_audit(folder: Path) -> Any:
    from memfast.auditing import AuditResult

    result = AuditResult.load(folder)
    pictures = result.pictures and {name: np.asarray(one).tolist() for name, one in vars(result.pictures).items()}
    return [json.dumps(result.to_dict(), sort_keys=True), list(result.pairs.rows(0, 1000)), pictures]


def _write_run(folder: Path) -> None:
    from memfast.data.canaries import Canaries
    from memfast.training import Trainer

    items = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    Trainer(
        {"kind": "mlp", "width": 8, "blocks": 1}, items, out=folder, steps=4, batch_size=6, log_every=1,
        checkpoint_every=2, device="cpu", compile=False, progress=False,
    ).run()  # fmt: skip
    Canaries(items[:3], [1, 2, 3]).save(folder)


def _read_run(folder: Path) -> Any:
    from memfast.models import load_run

    run = load_run(folder)
    weights = {name: tensor.tolist() for name, tensor in run.model.state_dict().items()}
    return [run.step, weights, run.item_shape, run.prediction_type, run.sigma_data, str(run.schedule)]


def _read_story(folder: Path) -> Any:
    from memfast.cli.story import training_story

    training_story(folder)
    return None


def _read_canaries(folder: Path) -> Any:
    from memfast.data.canaries import Canaries

    canaries = Canaries.load(folder)
    return [canaries.repeats.tolist(), canaries.items.block(0, len(canaries)).tolist()]


def _write_search(folder: Path) -> None:
    _read_search(folder)


def _read_search(folder: Path) -> Any:
    import memfast

    generated, training = (images.reshape(len(images), -1) for images in _numbers())
    found = memfast.knn(generated, training, 4, checkpoint=folder / "search", memory=20_000)
    return [found.squared_distances.tolist(), found.indices.tolist()]


def _write_features(folder: Path) -> None:
    _read_features(folder)


def _read_features(folder: Path) -> Any:
    import torch

    from memfast.features import extract

    values = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    options = {"identity": "flat", "shard_items": 8, "batch_size": 8}
    return extract(values, torch.nn.Flatten(), cache=folder / "cache", **options).values.tolist()


def _write_settings(folder: Path) -> None:
    from tests.soak.harness.verbs import CONFIG

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.toml").write_text(CONFIG.format(data="/data", steps=10))


def _read_settings(folder: Path) -> Any:
    from memfast.cli.settings import read_settings

    read_settings(folder / "train.toml")
    return None


def _write_trace(folder: Path) -> None:
    from memfast.models import load_run
    from memfast.trace import trace_run

    _write_run(folder / "run")
    trace_run(
        load_run(folder / "run"), labels=None, target="final", guidance=1.0, seeds=2, steps=3, progress=False
    ).save(folder / "trace", page=False)


def _read_trace(folder: Path) -> Any:
    from memfast.trace import load_trace

    return str(load_trace(folder / "trace"))


def _write_generation(folder: Path) -> None:
    from memfast.runtime import files

    files.write_together(folder, {"a.json": "old", "b.json": "old"})
    ready = folder / ".generation"
    ready.mkdir()
    (ready / "a.json").write_text("new")
    (ready / "removed.json").write_text(json.dumps(["b.json"]))


def _read_generation(folder: Path) -> Any:
    from memfast.runtime import files

    files.finish_generation(folder)
    return None


def _write_index(folder: Path) -> None:
    import memfast

    memfast.index(_numbers()[1], out=folder / "index")


def _read_index(folder: Path) -> Any:
    import memfast

    found = memfast.open_index(folder / "index").search(_numbers()[0], 4)
    return [found.squared_distances.tolist(), found.indices.tolist()]


_ALL = ("result.json", "pairs.csv", "pairs.parquet", "pictures.safetensors")
_OF_A_RUN = ("model.safetensors", "ema-0.999.safetensors", "state.json", "run.json")
KINDS = (
    Kind("audit", _write_audit, _read_audit, sealed=_ALL),
    Kind("run", _write_run, _read_run, sealed=_OF_A_RUN),
    Kind("log", _write_run, _read_story),
    Kind("canaries", _write_run, _read_canaries, sealed=("canaries.npy", "canaries.json")),
    Kind("search", _write_search, _read_search, sealed=("manifest.json", "result.safetensors")),
    Kind("features", _write_features, _read_features, sealed=(".npy",)),
    Kind("settings", _write_settings, _read_settings),
    Kind("trace", _write_trace, _read_trace),
    Kind("generation", _write_generation, _read_generation),
    Kind("index", _write_index, _read_index, sealed=("",)),
)
# Which files of a folder are changed; the others are of other kinds.
FILES = {
    "audit": _ALL[:2] + _ALL[3:], "run": _OF_A_RUN, "log": ("log.jsonl", "run.json"),
    "canaries": ("canaries.npy", "canaries.json"), "search": ("",), "features": ("",), "settings": ("train.toml",),
    "trace": ("trace.json",), "generation": ("removed.json", "a.json"), "index": ("",),
}  # fmt: skip


def available(names: list[str] | None = None) -> list[Kind]:
    """The kinds that this memfast can write and read."""
    import memfast
    from memfast import trace

    lacking = {"index"} if not hasattr(memfast, "open_index") else set()
    lacking |= {"trace"} if not hasattr(trace, "load_trace") else set()
    return [kind for kind in KINDS if kind.name not in lacking and (not names or kind.name in names)]
