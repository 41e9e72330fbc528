"""Study 1: paper 1's sweep of mean and width on ECG5000."""

from pathlib import Path

from studies import data, figures
from studies.interval_grid import GridSize, Reading, run_grid
from studies.interval_judgement import RULE, judge, panels
from studies.study import Judgement, Result, Study

Values = tuple[float, ...]

TOLD = {
    "uniform tails": "the default: mass outside 1..T is spread over all timesteps",
    "no clipping": "the same networks, sampled without keeping estimates within the data's range",
    "truncated": "tails cut off: an ordinary truncated normal",
    "lambda 0.9": "truncated normal with a share of 0.1 uniform",
    "from scratch": "trained from random weights, not fine-tuned",
}


def _readings(means: Values, widths: Values, other_means: Values, other_widths: Values) -> tuple[Reading, ...]:
    narrow = other_widths[:1]
    return (
        Reading("uniform tails", TOLD["uniform tails"], means, widths),
        Reading("no clipping", TOLD["no clipping"], means, widths, clip=False),
        Reading("truncated", TOLD["truncated"], other_means, other_widths, tails="renormalize"),
        Reading("lambda 0.9", TOLD["lambda 0.9"], other_means, narrow, tails="renormalize", mix=0.9),
        Reading("from scratch", TOLD["from scratch"], other_means, narrow, from_scratch=True),
    )


def run(size: GridSize, seed: int) -> Result:
    """The sweeps on ECG5000's official training set, with its test set held out."""
    training, held_out = data.ecg()
    return run_grid(size, training, held_out, seed)


def judgement(runs: list[Result]) -> Judgement:
    """By the rule of the sweeps."""
    return judge(runs, TOLD, "ECG5000")


def figure(runs: list[Result], path: Path) -> None:
    """Distances and nearest neighbours against the interval's mean."""
    drawing, axes = figures.axes(1, 3)
    panels(axes[0], runs, TOLD)
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figures.save(drawing, path)


SIZES = (
    GridSize(
        "quick", model={"kind": "unet1d", "widths": [8, 16, 24]}, pretrain_steps=1200, pretrain_lr=3e-3, epochs=30,
        lr=1e-4, batch_size=64, samples=250, sampler_steps=25, scratch_steps=600,
        readings=_readings((100, 400, 700, 1000), (100, 300, 700), (100, 550, 1000), (100, 300)),
    ),
    GridSize(
        "full", model={"kind": "unet1d", "widths": [64, 128, 256], "layers": 2}, pretrain_steps=50_000,
        pretrain_lr=2e-4, epochs=30, lr=1e-4, batch_size=64, samples=2000, sampler_steps=100, scratch_steps=50_000,
        readings=_readings(
            (100, 250, 400, 550, 700, 850, 1000), (100, 300, 500, 700), (100, 550, 1000), (100, 300, 700)
        ),
    ),
    GridSize(
        "tiny", model={"kind": "mlp", "width": 8, "blocks": 1}, pretrain_steps=2, pretrain_lr=1e-3, epochs=1, lr=1e-4,
        batch_size=250, samples=60, sampler_steps=2, scratch_steps=2,
        readings=_readings((100, 1000), (100, 700), (100, 1000), (100, 700)),
    ),
)  # fmt: skip

STUDY = Study(
    number=1,
    slug="ecg_intervals",
    title="Later timesteps on ECG signals",
    claim="Fine-tuning on later (noisier) timesteps reduces memorization, measured as the distance of samples to the "
    "training set: W falls by about 94 % and JS by about 93 % as the interval's mean goes from 100 to 1000 on ECG5000; "
    "the distances correlate with the mean at -0.73 to -0.83 and with the width at +0.32.",
    source="Vu et al. 2026, arXiv 2601.21348. Its numbers are known here from summaries of the paper; no table and no "
    "code could be read.",
    setup="ECG5000, all 500 training heartbeats of length 140. A small one-dimensional U-Net learns noise prediction "
    "uniformly for {pretrain_steps} steps, then {epochs} epochs at learning rate {lr} with timesteps from an interval "
    "of each mean and width. {samples} samples of each network ({sampler_steps} DDIM steps) are compared with the "
    "training set and with the 4,500 test heartbeats: L2 to the nearest item, W (W1) and JS per principal component, "
    "averaged over 50 components, in the signals' units. The paper calls a smaller distance to the training set less "
    "memorization. Elsewhere that is its symptom, so nearest neighbours are asked about the same samples: how many "
    "are copies, and how often a sample is closer to the training set than a held-out heartbeat is (50 %: no closer).",
    rule=RULE,
    differences="The paper states neither network, split, tails, mixture share, number of components, nor how it "
    "computes W, JS and L2: the choices above are ours. Its pretrained network is not public; ours is small, was "
    "trained briefly on the same 500 signals, and its samples are still farther from them than held-out heartbeats "
    "are. Training from random weights takes {scratch_steps} steps.",
    caption="left and middle, the paper's two distances (lower is what it calls less memorization); right, how often a "
    "sample is closer to the training set than a held-out heartbeat (higher is what others call more memorization). "
    "Lines: readings of what the paper leaves open, averaged over widths; bands: least to greatest over seeds.",
    sizes=SIZES,
    run=run,
    judge=judgement,
    figure=figure,
)
