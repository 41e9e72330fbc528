"""Where learning happened along the denoising trajectory, and how training went."""

from collections.abc import Sequence

from memfast.reports.charts import Line, line_chart
from memfast.reports.markup import Markup, folded, join, table, tag
from memfast.reports.numbers import short
from memfast.reports.run import ReportRun


def learning(runs: Sequence[ReportRun]) -> Markup | None:
    """The density over timesteps and the learning contribution C(t) = SNR(t) p(t)."""
    density: list[Line] = []
    contribution: list[Line] = []
    for number, run in enumerate(runs, 1):
        training = run.training or {}
        for key, lines in (("density", density), ("contribution", contribution)):
            if training.get(key) is not None:
                values = [float(value) for value in training[key]]
                lines.append(Line(run.label, list(range(1, len(values) + 1)), values, number))
    if not density and not contribution:
        return None
    charts = []
    if density:
        charts.append(
            line_chart(density, title="Timestep density: how often each timestep is trained",
                       x_label="timestep (1 is almost clean, the last is noise)", y_label="probability")
        )  # fmt: skip
    if contribution:
        charts.append(
            line_chart(contribution, title="Learning contribution C(t) = SNR(t) p(t)", x_label="timestep",
                       y_label="contribution, logarithmic", logarithmic=True)
        )  # fmt: skip
    return tag("div", charts, class_="grid")


def training(runs: Sequence[ReportRun]) -> Markup | None:
    """The loss over steps, what the monitor's audits found, and what each run was trained with."""
    lines, facts = [], []
    for number, run in enumerate(runs, 1):
        about = run.training or {}
        if about.get("steps") is not None and len(about["steps"]):
            name = run.label if len(runs) > 1 else "training"
            lines.append(Line(name, list(about["steps"]), list(about["loss"]), number))
        if about.get("held_out_steps") is not None and len(about["held_out_steps"]):
            name = f"{run.label}, held-out" if len(runs) > 1 else "held-out"
            lines.append(Line(name, list(about["held_out_steps"]), list(about["held_out_loss"]), number, True))
        if about.get("facts"):
            rows = [[str(key), _words(value)] for key, value in about["facts"].items()]
            facts.append(folded(f"How {run.label} was trained", table(["Setting", "Value"], rows)))
    if not lines and not facts:
        return None
    charts = [_memorization(runs)]
    positive = all(value > 0 for line in lines for value in line.y)
    y_label = "loss, logarithmic" if positive else "loss"
    chart = line_chart(lines, title="Loss", x_label="step", y_label=y_label, logarithmic=positive) if lines else None
    note = tag(
        "p", "Losses of runs with different timestep densities cannot be compared: they average over different noise.",
        class_="note",
    ) if len(lines) > 1 else None  # fmt: skip
    charts = [one for one in (chart, *charts) if one is not None]
    return join(tag("div", charts, class_="grid") if charts else None, note, facts)


def _memorization(runs: Sequence[ReportRun]) -> Markup | None:
    """The fraction at each audit of the monitor, its interval, and the held-out floor."""
    lines: list[Line] = []
    for number, run in enumerate(runs, 1):
        audits, prefix = (run.training or {}).get("audits"), f"{run.label}, " if len(runs) > 1 else ""
        if not audits:
            continue
        steps = list(audits["steps"])
        lines.append(Line(f"{prefix}generated", steps, list(audits["fraction"]), number))
        lines += [
            Line(f"{prefix}95 % interval, {end}", steps, list(audits[end]), number, True) for end in ("low", "high")
        ]
        if audits["floor"] is not None:
            lines.append(Line(f"{prefix}held-out", steps, list(audits["floor"]), 0, True))
    if not lines:
        return None
    return line_chart(lines, title="Memorized fraction while training", x_label="step", y_label="fraction of samples")


def _words(value: object) -> str:
    return short(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
