"""Study 6: what a trajectory shows of memorization, on a model that memorizes some of its conditions on purpose."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.trace import test_bed
from memfast.data.demo_images import demo_images
from memfast.models import load_run
from memfast.trace import trace_run
from studies.study import Result, Size, Study
from studies.training import workspace
from studies.trajectories_judgement import GROUPS, RULE, figure, judge


@dataclass(frozen=True)
class TrajectoriesSize(Size):
    """How large the study is.

    Attributes:
        side: of the images, in pixels.
        steps: training steps of the test bed.
        width: of its network.
        images: different images behind each diverse condition.
        seeds: samples per condition.
        sampler_steps: of DDIM.
        guidance: of the main trace.
        sweep: other guidance scales.
    """

    side: int
    steps: int
    width: int
    images: int
    seeds: int
    sampler_steps: int
    guidance: float
    sweep: tuple[float, ...]


def run(size: TrajectoriesSize, seed: int) -> Result:
    """Train the test bed and trace it: against the training images, and against each run's own final sample."""
    with workspace() as folder:
        bed = test_bed.build(
            folder / "bed", seed, size.steps, side=size.side, width=size.width, images=size.images
        )  # fmt: skip
        trained = load_run(bed.folder)
        asked: dict[str, Any] = {
            "labels": [condition["label"] for condition in bed.conditions],
            "names": [condition["name"] for condition in bed.conditions],
            "memorized": [condition["memorized"] for condition in bed.conditions],
            "targets": bed.targets, "seeds": size.seeds, "steps": size.sampler_steps, "guidance": size.guidance,
            "seed": seed,
        }  # fmt: skip
        rows = sorted({row for condition in bed.conditions for row in condition["images"]})
        bank = trained.format.to_network(torch.from_numpy(demo_images(size.side).take(np.array(rows))))
        content = trace_run(trained, **asked, bank=bank, sweep=size.sweep).to_dict()
        final = trace_run(trained, **asked | {"target": "final"}).to_dict()
    return {
        "guidance": size.guidance,
        "alpha_bar": content["alpha_bar"],
        "lines": content["theory"]["schedule"],
        "conditions": [
            _condition(one, other) for one, other in zip(content["conditions"], final["conditions"], strict=True)
        ],
        "curves": {group: _curves(content["conditions"], remembered) for group, remembered in GROUPS.items()},
        "sweep": [
            {
                "guidance": entry["guidance"],
                "conditions": [
                    {
                        name: one[name]
                        for name in ("memorized", "d1", "d2", "overestimation", "similarity", "early_loss")
                    }
                    for one in entry["conditions"]
                ],
            }
            for entry in content["guidance_sweep"] or []
        ],
        "detection": {
            name: {"auc": found["auc"], "tpr": found["tpr_at_fpr"]["tpr"]}
            for name, found in (content["detection"] or {}).items()
        },
    }


def _condition(entry: dict[str, Any], final: dict[str, Any]) -> Result:
    return {
        "name": entry["name"], "memorized": entry["memorized"], "similarity": entry["similarity"]["mean"],
        "d1": entry["d1"], "d2": entry["d2"], "d1_final": final["d1"], "d2_final": final["d2"],
        "overestimation": entry["overestimation"], "normalised_loss": entry["normalised_loss"],
        "first_loss": {branch: values[0] for branch, values in entry["loss"].items()},
    }  # fmt: skip


def _curves(entries: list[dict[str, Any]], remembered: bool) -> Result:
    chosen = [entry for entry in entries if entry["memorized"] is remembered]
    return {
        "w_target": _mean([entry["w_target"]["mean"] for entry in chosen]),
        "w_initial": _mean([entry["w_initial"]["mean"] for entry in chosen]),
        "diversity": _mean([entry["diversity"] for entry in chosen]),
        **{branch: _mean([entry["loss"][branch] for entry in chosen]) for branch in chosen[0]["loss"]},
    }


def _mean(curves: list[list[float]]) -> list[float]:
    return np.mean(np.array(curves, dtype=np.float64), axis=0).tolist()


SIZES = (
    TrajectoriesSize(
        "quick", side=14, steps=5000, width=320, images=60, seeds=8, sampler_steps=50, guidance=7.5,
        sweep=(1.0, 2.0, 3.0, 5.0),
    ),
    TrajectoriesSize(
        "full", side=28, steps=60_000, width=1024, images=60, seeds=50, sampler_steps=50, guidance=7.5,
        sweep=(1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
    ),
    TrajectoriesSize(
        "tiny", side=14, steps=3, width=8, images=2, seeds=2, sampler_steps=3, guidance=7.5, sweep=(1.0,)
    ),
)  # fmt: skip

STUDY = Study(
    number=6,
    slug="trajectories",
    title="What a trajectory shows of a memorized condition",
    claim="Under guidance the first estimates of memorized prompts overshoot towards the training image: the loss "
    "against it is larger early on, the overestimate is about the guidance scale, the states leave the schedule's "
    "lines, and the seeds of one prompt fall together. Two scores of the departure, D1 and D2, correlate with the "
    "similarity of the final image to the training image: Pearson 0.92, 0.92 and 0.70 on three models (Kim et al.).",
    source="Kim, Kim and Lee 2025, arXiv 2509.25705 (abstract, the authors' code, and reviews for the correlations, "
    "whose order is not labelled).",
    setup="A class-conditional network on Fashion-MNIST at {side} x {side} pixels with forty conditions, all equally "
    "frequent: ten are paired with ONE image each, thirty with {images} different ones. {steps} steps; then "
    "{seeds} seeds of every condition by DDIM ({sampler_steps} steps, guidance {guidance}, estimates not clipped), "
    "measured against the condition's image (for a diverse condition: one of its images). Repeated at other guidance "
    "scales.",
    rule=RULE,
    differences="The paper's models are Stable Diffusion 1.4, 2.1 and Realistic Vision with 436 prompts whose images "
    "are known to be memorized to varying degree; similarity there is SSCD, here minus the root mean square "
    "difference in [-1, 1]. Our conditions are memorized or not by construction, so a correlation over all of them is "
    "mostly one between two groups; the correlations within the groups stand beside it. A diverse condition has no "
    "single image, so its target is one of sixty. The training image is the target (the authors' code of June 2025 "
    "takes the final sample: the reading is given).",
    caption="left, how much of a state is the training image (rising) and the initial noise (falling), with the "
    "schedule's lines dotted; middle, distance between seeds; right, D1 against the similarity of the final sample.",
    sizes=SIZES,
    run=run,
    judge=judge,
    figure=figure,
)
