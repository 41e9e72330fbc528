"""Study 3a: densities of other shapes, matched to a confidence interval in mean and width. Do they act alike?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from memfast import schedules
from memfast.timesteps import Beta, ConfidenceInterval, GaussianMixture, Laplace, StudentT
from memfast.timesteps.density import Density
from studies import data, figures
from studies.spread import Spread
from studies.study import Judgement, Result, Size, Study, Table
from studies.training import T, distances, generate, memorized_fraction, objective, train, workspace

PREDICTION = "sample"
ALIKE = 0.5
INTERVAL = "interval"

# name -> (parameters -> density, first guess from (mean, width)); parameters are free real numbers.
Family = tuple[Callable[[np.ndarray], Density], Callable[[float, float], tuple[float, float]]]
FAMILIES: dict[str, Family] = {
    "Student's t (3)": (lambda p: StudentT(float(p[0]), float(np.exp(p[1]))), lambda m, w: (m, np.log(w / 1.5))),
    "Laplace in log SNR": (lambda p: Laplace(float(p[0]), float(np.exp(p[1]))), lambda m, w: (4 - m / 100, 0.5)),
    "Beta": (
        lambda p: Beta(float(np.exp(p[0])), float(np.exp(p[1]))),
        lambda m, w: (np.log(4 * m / T), np.log(4 - 4 * m / T)),
    ),
    "two Gaussians": (
        lambda p: GaussianMixture((float(p[0] - np.exp(p[1])), float(p[0] + np.exp(p[1]))), (40.0, 40.0)),
        lambda m, w: (m, np.log(w / 2)),
    ),
}

RULE = (
    "(1) the shapes' range of copies at a position (greatest minus least of the means over seeds, the interval "
    f"included) is at most {ALIKE:.0%} of the difference that the position makes; (2) no shape's brackets lie apart "
    "from the interval's. *Holds* if both are so at both positions; *holds in part* if (1) is so at one at least; "
    "otherwise *not here*."
)


@dataclass(frozen=True)
class DensitySize(Size):
    """How large the study is.

    Attributes:
        side: of the images, in pixels.
        images: in the training set.
        held_out: images that are not learned.
        model: the network.
        steps: of every training.
        lr: its learning rate.
        ema: decay of the averaged weights.
        samples: of each network.
        sampler_steps: of DDIM.
        positions: (mean, width) of the intervals.
    """

    side: int
    images: int
    held_out: int
    model: dict[str, Any]
    steps: int
    lr: float
    ema: float
    samples: int
    sampler_steps: int
    positions: tuple[tuple[float, float], ...]


def mean_and_width(density: Density) -> tuple[float, float]:
    """The mean timestep, and the width of the central half of the mass, in timesteps with fractions."""
    cumulative = np.concatenate([[0.0], np.cumsum(density.probabilities(schedules.linear(T)))])
    low, high = np.interp([0.25, 0.75], cumulative, np.arange(T + 1) + 0.5)
    return density.mean(schedules.linear(T)), float(high - low)


def matched(family: str, target: Density) -> Density:
    """The density of a family that is nearest to ``target`` in mean and width."""
    make, guess = FAMILIES[family]
    wanted = np.array(mean_and_width(target))

    def miss(parameters: np.ndarray) -> float:
        return float(np.square(np.array(mean_and_width(make(parameters))) - wanted).sum())

    found = optimize.minimize(miss, guess(*wanted), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-3})
    return make(found.x)


def run(size: DensitySize, seed: int) -> Result:
    """Train once for every position and family, and measure copies and quality."""
    images, held_out = data.fashion(size.side)
    training, _ = data.subset(images, size.images, seed)
    held_out, _ = data.subset(held_out, size.held_out, seed)
    points = []
    with workspace() as folder:
        for position, (mean, width) in enumerate(size.positions):
            interval = ConfidenceInterval.from_mean_width(mean, width)
            for name in (INTERVAL, *FAMILIES):
                density = interval if name == INTERVAL else matched(name, interval)
                out = train(
                    training, out=folder / f"{position}-{len(points)}", model=size.model,
                    objective=objective(density, PREDICTION), steps=size.steps, seed=seed, lr=size.lr, ema=size.ema,
                )  # fmt: skip
                samples = generate(out, size.samples, seed=seed, steps=size.sampler_steps)
                effective = mean_and_width(density)
                points.append(
                    {
                        "position": mean, "family": name, "mean": effective[0], "width": effective[1],
                        "copies": memorized_fraction(samples, training),
                        "sliced": float(distances(samples, held_out)["sliced"]),
                    }
                )  # fmt: skip
    return {"points": points}


def judge(runs: list[Result]) -> Judgement:
    """By the rule."""
    positions = sorted({point["position"] for point in runs[0]["points"]})
    copies = {position: _means(runs, position) for position in positions}
    difference = abs(_average(copies[positions[0]]) - _average(copies[positions[-1]]))
    ranges = {position: max(shares.values()) - min(shares.values()) for position, shares in copies.items()}
    alike = [difference > 0 and spread <= ALIKE * difference for spread in ranges.values()]
    apart = {position: names for position in positions if (names := _apart(runs, position))}
    verdict = "holds" if all(alike) and not apart else "holds in part" if any(alike) else "not here"
    told = "; ".join(f"at mean {position:g} {' and '.join(names)}" for position, names in apart.items())
    spreads = " and ".join(f"{100 * ranges[position]:.0f} points at mean {position:g}" for position in positions)
    quality = [float(np.mean([run["points"][n]["sliced"] for run in runs])) for n in range(len(runs[0]["points"]))]
    return Judgement(
        verdict,
        f"Densities of five shapes with the same mean and width differ in their copies by {spreads}, where moving the "
        f"mean makes a difference of {100 * difference:.0f} points. Apart from the interval lie: {told or 'none'}. The "
        f"shapes' distance to held-out images is from {min(quality):.3f} to {max(quality):.3f}.",
        tables=[_table(runs)],
        headline=f"from random weights, moving the timesteps' mean from {positions[0]:g} to {positions[-1]:g} takes "
        f"the copies from {_average(copies[positions[0]]):.0%} to {_average(copies[positions[-1]]):.0%}; the density's "
        f"shape makes up to {100 * max(ranges.values()):.0f} points (at mean {positions[-1]:g} "
        f"{_extremes(copies[positions[-1]])}).",
    )


def figure(runs: list[Result], path: Path) -> None:
    """Copies by family and position."""
    drawing, axes = figures.axes(1, 2, inches=(3.6, 2.7))
    positions = sorted({point["position"] for point in runs[0]["points"]})
    families = [point["family"] for point in runs[0]["points"] if point["position"] == positions[0]]
    for axis, key, scale, label in (
        (axes[0, 0], "copies", 100, "copies (%)"),
        (axes[0, 1], "sliced", 1, "sliced W2 to held-out images"),
    ):
        for shift, position, color in zip((-0.1, 0.1), positions, figures.COLORS, strict=False):
            spreads = [Spread.of(scale * value for value in _values(runs, position, name, key)) for name in families]
            places = np.arange(len(families)) + shift
            axis.plot(places, [s.mean for s in spreads], "o", color=color, label=f"mean {position:g}")
            axis.vlines(places, [s.low for s in spreads], [s.high for s in spreads], color=color)
        axis.set(ylabel=label, xticks=range(len(families)))
        axis.set_xticklabels(families, rotation=25, ha="right")
    axes[0, 0].legend()
    figures.save(drawing, path)


def _apart(runs: list[Result], position: float) -> list[str]:
    """The families whose spread over the seeds does not meet the interval's."""
    own = Spread.of(_values(runs, position, INTERVAL, "copies"))
    others = {name: Spread.of(_values(runs, position, name, "copies")) for name in _means(runs, position)}
    return [name for name, one in others.items() if one.low > own.high or one.high < own.low]


def _average(shares: dict[str, float]) -> float:
    return float(np.mean(list(shares.values())))


def _extremes(shares: dict[str, float]) -> str:
    least, most = min(shares, key=lambda name: shares[name]), max(shares, key=lambda name: shares[name])
    return f"from {shares[least]:.1%} ({least}) to {shares[most]:.1%} ({most})"


def _values(runs: list[Result], position: float, family: str, key: str) -> list[float]:
    return [
        point[key]
        for run in runs
        for point in run["points"]
        if point["position"] == position and point["family"] == family
    ]


def _means(runs: list[Result], position: float) -> dict[str, float]:
    families = [point["family"] for point in runs[0]["points"] if point["position"] == position]
    return {name: float(np.mean(_values(runs, position, name, "copies"))) for name in families}


def _table(runs: list[Result]) -> Table:
    rows = []
    for point in runs[0]["points"]:
        copies, sliced = (
            _values(runs, point["position"], point["family"], key) for key in ("copies", "sliced")
        )  # fmt: skip
        rows.append(
            (
                f"{point['position']:g}", point["family"], f"{point['mean']:.0f}", f"{point['width']:.0f}",
                Spread.of(100 * value for value in copies).text(".1f"), Spread.of(sliced).text(".3f"),
            )
        )  # fmt: skip
    header = ("position", "density", "mean in effect", "width in effect", "copies (%)", "sliced W2 to held-out images")
    return Table("", header, rows)


SIZES = (
    DensitySize(
        "quick", side=14, images=60, held_out=500, model={"kind": "mlp", "width": 256, "blocks": 3}, steps=1000,
        lr=2e-3, ema=0.99, samples=250, sampler_steps=25, positions=((250, 300), (750, 300)),
    ),
    DensitySize(
        "full", side=28, images=1000, held_out=2000, model={"kind": "unet2d", "widths": [64, 128, 128], "layers": 2},
        steps=100_000, lr=2e-4, ema=0.9999, samples=5000, sampler_steps=100, positions=((250, 300), (750, 300)),
    ),
    DensitySize(
        "tiny", side=7, images=6, held_out=50, model={"kind": "mlp", "width": 8, "blocks": 1}, steps=2, lr=2e-3,
        ema=0.5, samples=20, sampler_steps=2, positions=((250, 300), (750, 300)),
    ),
)  # fmt: skip

STUDY = Study(
    number=3,
    slug="densities",
    title="Does the shape of the timestep density matter?",
    claim="The interval's mean and width are the control (open check): another density with the same mean and width "
    "should copy as much.",
    source="Vu et al. 2026, arXiv 2601.21348, which tries a Gaussian interval only.",
    setup="{images} Fashion-MNIST images of {side} x {side} pixels, {steps} steps from random weights. At two "
    "positions the confidence interval (mean 250 or 750, width 300, default tails) is replaced by a Student's t with "
    "3 degrees of freedom, a Laplace law in log SNR, a Beta law and two narrow Gaussians, each fitted to the "
    "interval's mean timestep and to the width of the central half of its mass. Copies are counted among {samples} "
    "samples.",
    rule=RULE,
    differences="The paper makes no such claim in words; it is the check that its two controls invite. Prediction of "
    "the clean image, a small network, from random weights.",
    caption="copies (left) and distance to held-out images (right) for five shapes at two positions; lines: least to "
    "greatest over seeds.",
    sizes=SIZES,
    run=run,
    judge=judge,
    figure=figure,
)
