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
    """The loss over steps, and what each run was trained with."""
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
    positive = all(value > 0 for line in lines for value in line.y)
    y_label = "loss, logarithmic" if positive else "loss"
    chart = line_chart(lines, title="Loss", x_label="step", y_label=y_label, logarithmic=positive) if lines else None
    note = tag(
        "p", "Losses of runs with different timestep densities cannot be compared: they average over different noise.",
        class_="note",
    ) if len(lines) > 1 else None  # fmt: skip
    return join(tag("div", chart, class_="grid") if chart else None, note, facts)


def _words(value: object) -> str:
    return short(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
