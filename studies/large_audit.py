"""Study 7: an audit at scale. Are planted copies found in a large training set, at what cost?"""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import memfast
from memfast.neighbors import ApproximateIndex
from studies import data, figures
from studies.large_data import augmented, planted, ways, write_training
from studies.large_judgement import CRITERIA, RULE, judge, panels
from studies.study import Judgement, Result, Size, Study
from studies.training import workspace

MIB = 2**20


@dataclass(frozen=True)
class AuditSize(Size):
    """How large the audit is.

    Attributes:
        training: images in the training set, exact duplicates included.
        duplicates: of these, images that repeat another exactly.
        generated: samples, planted copies included.
        each: planted copies of each way.
        held_out: images for the floor.
        neighbours: nearest images to know for each sample.
        memory_mib: what the search may use.
        threads: threads of the search.
        index: faiss' description of the approximate index beside it.
        index_rows: training images on which the index is trained.
        probes: lists of the index to visit.
    """

    training: int
    duplicates: int
    generated: int
    each: int
    held_out: int
    neighbours: int
    memory_mib: int
    threads: int
    index: str
    index_rows: int
    probes: tuple[int, ...]


def run(size: AuditSize, seed: int) -> Result:
    """One audit, and the same question to an approximate index."""
    torch.set_num_threads(size.threads)
    base, unseen = data.cifar()
    with workspace() as folder:
        path = folder / "training.npy"
        repeated = write_training(path, base, size.training, size.duplicates, seed)
        copies, originals, changes = planted(path, repeated, size.each, seed)
        fresh = np.concatenate(list(augmented(unseen, size.generated - len(copies) + size.held_out, seed)))
        honest, held_out = fresh[: -size.held_out], fresh[-size.held_out :]
        generated = np.concatenate([copies, honest])
        training = np.load(path, mmap_mode="r")
        with _Watch() as watch:
            result = memfast.audit(
                generated, training, held_out, size.neighbours, criteria=CRITERIA, controls=False,
                memory=size.memory_mib * MIB, pictures=0, seed=seed,
            )  # fmt: skip
        found = _by_sample(result)
        return {
            "ways": _ways(found, originals, changes, size.each),
            "honest": {name: int(found["flags"][name][len(copies) :].sum()) for name in CRITERIA}
            | {"total": len(honest)},
            "held_out": {name: result.criterion(name)["held_out"]["fraction"] for name in CRITERIA},
            "training": len(training),
            "generated": len(generated),
            "threads": size.threads,
            "memory_mib": size.memory_mib,
            "exactness": result.figures["search"]["exactness"],
            "training_mib": training.nbytes / MIB,
            "exact": watch.found | {"operations": 2 * (len(generated) + size.held_out) * training.size},
            "approximate": _approximate(size, training, generated, originals, found["nearest"]),
        }


def judgement(runs: list[Result]) -> Judgement:
    """By ``RULE``."""
    return judge(runs)


def figure(runs: list[Result], path: Path) -> None:
    """Recall of planted copies, by way and criterion; and of the approximate index."""
    drawing, axes = figures.axes(1, 2, inches=(4.6, 5.2), sharey=True)
    panels(axes[0], runs)
    figures.save(drawing, path)


def _by_sample(result: memfast.auditing.AuditResult) -> dict[str, Any]:
    """For every sample, in its order: the training image nearest to it, and what each criterion says."""
    columns = result.pairs.columns
    order = np.argsort(columns["generated"])
    fired = [set(text.split()) for text in columns["criteria"]]
    flags = {name: np.asarray([name in one for one in fired])[order] for name in CRITERIA}
    return {"nearest": np.asarray(columns["training"])[order], "flags": flags}


def _ways(found: dict[str, Any], originals: np.ndarray, changes: list[float], each: int) -> list[dict[str, Any]]:
    """For each way of copying: how many copies lead to their original, and how many of these each criterion flags."""
    right = found["nearest"][: len(originals)] == originals
    rows = []
    for number, way in enumerate(ways()):
        part = slice(number * each, (number + 1) * each)
        row: dict[str, Any] = {
            "label": way.label, "rms": changes[number], "total": each, "nearest": int(right[part].sum()),
        }  # fmt: skip
        for name in CRITERIA:
            row[name] = int((found["flags"][name][part] & right[part]).sum())
        rows.append(row)
    return rows


def _approximate(
    size: AuditSize, training: np.ndarray, generated: np.ndarray, originals: np.ndarray, nearest: np.ndarray
) -> list[dict[str, Any]]:
    """The index's two nearest of every sample: how often the first is the true one, and time and memory."""
    with _Watch() as building:
        index = ApproximateIndex(size.index, training_rows=size.index_rows).build(training)
    rows = []
    for probes in size.probes:
        index.probes = probes
        with _Watch() as searching:
            found = memfast.knn(generated, training, 2, approximate=index)
        first = np.asarray(found.indices)[:, 0]
        hits = (first[: len(originals)] == originals).reshape(-1, size.each).sum(axis=1)
        rows.append(
            {
                "probes": probes, "agrees": float((first == nearest).mean()), "nearest": hits.tolist(),
                "seconds": building.found["seconds"] + searching.found["seconds"],
                "cpu_seconds": building.found["cpu_seconds"] + searching.found["cpu_seconds"],
                "grown_mib": max(building.found["grown_mib"], searching.found["grown_mib"]),
            }
        )  # fmt: skip
    return rows


class _Watch:
    """Seconds, processor seconds, and by how much the process's memory grew at most (file pages included)."""

    def __enter__(self) -> "_Watch":
        # Linux's own way to begin the peak anew; where it is forbidden, the growth is overstated.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        self._before = _status("VmRSS")
        self._clocks = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *details: object) -> None:
        seconds, cpu = time.perf_counter() - self._clocks[0], time.process_time() - self._clocks[1]
        self.found = {
            "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2),
            "grown_mib": round(max(0.0, _status("VmHWM") - self._before), 1), "peak_mib": round(_status("VmHWM"), 1),
        }  # fmt: skip


def _status(field: str) -> float:
    """A field of Linux's /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


STUDY = Study(
    number=7,
    slug="large_audit",
    title="An audit at scale",
    claim="An exact search of every generated sample in the whole training set is feasible without a GPU, keeps to "
    "the memory it is given, finds verbatim and nearly verbatim copies by every criterion, and rarely flags honest "
    "samples.",
    source="This library's own claim (docs/audit.md, docs/neighbors.md). Carlini et al. 2023, arXiv 2301.13188, audit "
    "CIFAR-10 models in this way.",
    setup="The training set is a memory-mapped file of {training:,} images of 32 x 32 x 3: turned, cropped, mirrored "
    "and recoloured parts of 10,000 CIFAR-10 images; {duplicates} repeat another exactly. The {generated:,} samples "
    "are {each} planted copies of each way in the table, every one of another image, and honest samples, which are "
    "made in the same way from 2,000 other CIFAR-10 images. `memfast.audit` knows the samples' {neighbours} nearest "
    "images, may use {memory_mib} MiB for the search, and compares with {held_out} held-out images. Beside it, a "
    "faiss index (`{index}`, trained on {index_rows:,} images) proposes candidates that are ranked exactly.",
    rule=RULE,
    differences="No model generates here: copies are planted, so that the truth is known, and honest samples are new "
    "pictures rather than a model's. Augmented images of one CIFAR-10 image are near each other: with many of them "
    "for each, the second nearest image would be closer than in a set of different photographs and the NN ratio "
    "stricter. Nothing is shown here of more than {training:,} training images. Times are of one run on a shared "
    "machine; processor seconds depend on it less.",
    caption="left, planted copies that a criterion flags with the right original; right, copies whose original is "
    "the nearest image by exact search and by an approximate index. All seeds together; stronger changes further "
    "down within each kind.",
    sizes=(
        AuditSize(
            "quick", training=100_000, duplicates=200, generated=10_000, each=100, held_out=500, neighbours=50,
            memory_mib=512, threads=1, index="IVF256,Flat", index_rows=10_000, probes=(1, 4),
        ),
        AuditSize(
            "full", training=1_000_000, duplicates=1000, generated=50_000, each=400, held_out=2000, neighbours=50,
            memory_mib=1024, threads=2, index="IVF1024,SQ8", index_rows=60_000, probes=(4, 16),
        ),
        AuditSize(
            "tiny", training=600, duplicates=10, generated=300, each=4, held_out=50, neighbours=10,
            memory_mib=64, threads=1, index="IVF4,Flat", index_rows=300, probes=(1, 2),
        ),
    ),
    run=run,
    judge=judgement,
    figure=figure,
)  # fmt: skip
