"""How a run was trained, as a report tells it: losses, where it learned, and the facts of the set-up."""

from pathlib import Path
from typing import Any

AUDITED = ("memorized", "memorized_low", "memorized_high", "memorized_floor")


def training_story(folder: Path) -> dict[str, Any]:
    """What ``memfast.reports.ReportRun`` wants to know of the run in ``folder``.

    Raises:
        InputError: no run, or one whose run.json lacks what a run's has.
    """
    from memfast.foundation.errors import InputError
    from memfast.models.checkpoints import RUN_FILE, read_run
    from memfast.objective import DenoisingObjective
    from memfast.schedules import Schedule
    from memfast.timesteps import learning_contribution
    from memfast.training import read_log

    if not (folder / RUN_FILE).is_file():
        raise InputError(str(folder), expected=f"a run's folder, with {RUN_FILE}", received="no such file")
    settings = read_run(folder)
    entries = [entry for entry in read_log(folder) if "step" in entry]
    log = [entry for entry in entries if "loss" in entry]
    audits = [entry for entry in entries if all(name in entry for name in AUDITED)]
    try:
        objective, facts = DenoisingObjective.from_dict(settings["objective"]), _facts(settings)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            str(folder / RUN_FILE), expected="the settings of a run", received=f"a damaged file ({error!r})"
        ) from error
    story: dict[str, Any] = {
        "steps": [entry["step"] for entry in log], "loss": [entry["loss"] for entry in log], "facts": facts,
    }  # fmt: skip
    if audits:
        floors = [entry["memorized_floor"] for entry in audits]
        story["audits"] = {
            "steps": [entry["step"] for entry in audits],
            "fraction": [entry["memorized"] for entry in audits],
            "low": [entry["memorized_low"] for entry in audits],
            "high": [entry["memorized_high"] for entry in audits],
            "floor": None if None in floors else floors,
        }
    if isinstance(objective.schedule, Schedule):
        density = objective.density.probabilities(objective.schedule)
        story["density"] = density.tolist()
        story["contribution"] = learning_contribution(objective.schedule, objective.density).tolist()
    return story


def _facts(settings: dict[str, Any]) -> dict[str, Any]:
    model, training, objective = settings["model"] or {"kind": "given"}, settings["training"], settings["objective"]
    return {
        "data": f"{settings['data']['count']} items of {settings['data']['name']}",
        "network": _in_words(model, "kind"),
        "prediction": objective["prediction_type"],
        "timesteps": _in_words(objective["timesteps"], "name"),
        "schedule": _in_words(objective["schedule"], "name"),
        "batch size": training["batch_size"],
        "learning rate": training["lr"]["base"],
        "seed": training["seed"],
    }


def _in_words(settings: dict[str, Any], name: str) -> str:
    options = [f"{key} {value}" for key, value in settings.items() if key != name and value not in (None, [])]
    return ", ".join([str(settings[name]).replace("_", " "), *options])
