"""Study 4's runs: train every arm of the comparison, and on the way measure copies and quality of its samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memfast import DenoisingObjective, knn, schedules
from memfast.criteria import Absolute, Authenticity, Calibrated, Criterion, Evidence, NnRatio
from memfast.features import extract
from memfast.metrics import Moments, PrincipalComponents, frechet_distance
from memfast.objective import Ambient
from memfast.sampling import heun
from memfast.timesteps import LogNormal
from memfast.training import Hook, RunState
from studies.training import T, train, workspace

NEIGHBOURS = 50
UNIT = 255.0
CRITERIA: tuple[type[Criterion], ...] = (NnRatio, Calibrated, Absolute, Authenticity)
HEADLINE = NnRatio.name


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        form: ``"vp"`` (linear schedule, uniform timesteps, plain squared error) or ``"edm"`` (alpha = 1, log-normal
            noise levels and EDM's weight, the form of the paper's code).
        prediction: what the network predicts.
        noise: sigma_n of the Ambient targets as a ratio of noise to signal, for data in [-1, 1]; None is plain
            training. For alpha = 1 this is sigma_n itself.
        compensate: divide the paper's implicit weight out.
    """

    form: str
    prediction: str
    noise: float | None = None
    compensate: bool = False

    def objective(self) -> DenoisingObjective:
        """What is learned."""
        ambient = None
        if self.noise is not None:
            sigma = self.noise if self.form == "edm" else self.noise / float(np.hypot(1.0, self.noise))
            ambient = Ambient(sigma=sigma, compensate=self.compensate)
        if self.form == "edm":
            return DenoisingObjective(schedules.edm_continuous(), LogNormal(), self.prediction, "edm", ambient)
        return DenoisingObjective(schedules.linear(T), None, self.prediction, ambient=ambient)


class Measure:
    """Measures samples: the share of copies by each criterion, and the Frechet distance to images never trained on.

    Args:
        training: uint8 images ``[n, H, W, C]`` that are trained on.
        reference: others of the same source.
        features: ``"pca"``, principal components of the reference, or a name that `memfast.features.extract` takes.
        components: how many components.
    """

    def __init__(self, training: np.ndarray, reference: np.ndarray, *, features: str, components: int) -> None:
        self.training, self.name = training, features
        if features == "pca":
            self.components = PrincipalComponents.fit(_flat(reference), components)
        gaps = knn(training, training, 1, exclude_self=True, distributed=False)
        self.gaps = np.asarray(gaps.squared_distances)[:, 0]
        self.reference = self.moments(reference)

    def __call__(self, samples: np.ndarray) -> dict[str, Any]:
        """``frechet`` and the shares ``copies``, by criterion."""
        found = knn(samples, self.training, min(NEIGHBOURS, len(self.training)), distributed=False)
        indices = np.asarray(found.indices)
        evidence = Evidence(
            np.asarray(found.squared_distances), indices, values=int(np.prod(samples.shape[1:])), unit=UNIT,
            neighbour_gaps=self.gaps[indices[:, 0]],
        )  # fmt: skip
        return {
            "frechet": frechet_distance(self.moments(samples), self.reference),
            "copies": {one.name: float(one().judge(evidence).flags.mean()) for one in CRITERIA},
            "nearest_rms": float(evidence.rms().mean()),
        }

    def moments(self, images: np.ndarray) -> Moments:
        """Mean and covariance of the images' features."""
        moments = Moments()
        if self.name == "pca":
            moments.update(self.components.transform(_flat(images)))
        else:
            moments.update(extract(images, self.name, cache=False).values)
        return moments


class Snapshots(Hook):
    """Draws samples with the averaged weights after given steps, always from the same noise, and measures them."""

    name = "snapshots"

    def __init__(self, measure: Measure, at: Sequence[int], *, samples: int, sampler_steps: int, seed: int) -> None:
        self.measure, self.at = measure, set(at)
        self.samples, self.sampler_steps, self.seed = samples, sampler_steps, seed
        self.curve: list[dict[str, Any]] = []

    def after_step(self, run: RunState) -> None:
        """Measure when it is time."""
        if run.step not in self.at:
            return
        objective, form = run.objective, run.format
        with run.averaged_weights():
            values = heun(
                run.model, objective.schedule, shape=form.item_shape, count=self.samples, steps=self.sampler_steps,
                seed=self.seed, prediction_type=objective.prediction_type, sigma_data=objective.sigma_data,
                device=run.device,
            )  # fmt: skip
        self.curve.append({"step": run.step} | self.measure(form.to_data(values)))


def run_arm(
    arm: Arm,
    measure: Measure,
    *,
    steps: int,
    snapshots: Sequence[float],
    samples: int,
    sampler_steps: int,
    seed: int,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Train one arm; its curve over training time.

    Args:
        arm: the way to train.
        measure: of the training images to use.
        steps: how many.
        snapshots: shares of ``steps`` after which to measure.
        samples: for each measurement.
        sampler_steps: of Heun's sampler.
        seed: of everything random.
        settings: as `studies.training.train` takes them.
    """
    at = sorted({max(1, round(share * steps)) for share in snapshots})
    hook = Snapshots(measure, at, samples=samples, sampler_steps=sampler_steps, seed=seed)
    with workspace() as folder:
        train(
            measure.training, out=folder / "run", objective=arm.objective(), steps=steps, seed=seed, hooks=[hook],
            **settings,
        )  # fmt: skip
    return hook.curve


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / UNIT
