"""The TOML file is read strictly, and flags win over it."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from memfast.cli.settings import Settings, TrainingSettings, documented, read_settings
from memfast.foundation.errors import InputError
from memfast.training import Trainer, TrainingConfig


def write(folder, text):
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_defaults_file_and_flags_in_this_order(tmp_path):
    path = write(tmp_path, "[training]\nsteps = 5\nlr = 1\n[objective.timesteps]\nname = 'beta'\na=1\n")
    settings = read_settings(path, {"training.steps": 7, "training.seed": None})
    assert settings.training.steps == 7
    assert settings.training.lr == 1.0
    assert settings.training.seed == Settings().training.seed
    assert settings.objective.timesteps == {"name": "beta", "a": 1}


@pytest.mark.parametrize(
    ("text", "flags", "steps", "epochs"),
    [
        ("", {}, 10_000, None),
        ("epochs = 3", {}, None, 3.0),
        ("epochs = 0.5", {"training.steps": 7}, 7, None),
        ("steps = 7", {"training.epochs": 2.0}, None, 2.0),
        ("steps = 7", {"training.steps": None, "training.epochs": None}, 7, None),
        ("steps = 7\nepochs = 3", {}, 7, 3.0),
    ],
    ids=["neither", "epochs", "steps-flag", "epochs-flag", "no-flag", "both"],
)
def test_steps_or_epochs(tmp_path, text, flags, steps, epochs):
    training = read_settings(write(tmp_path, "[training]\n" + text), flags).training
    assert (training.steps, training.epochs) == (steps, epochs)


def test_several_averages_by_number_and_name(tmp_path):
    path = write(tmp_path, "[training]\nema = [0.99, 'power-0.05', 0]\nbetas = [0.9, 0.99]")
    training = read_settings(path).training
    assert training.ema == [0.99, "power-0.05", 0.0]
    assert training.betas == [0.9, 0.99]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nstep = 5", r"'training.step'.*unknown key.*Did you mean training\.steps"),
        ("[trainning]\nsteps = 5", r"'trainning'.*Did you mean training"),
        ("[training]\nsteps = 'five'", r"'training.steps': expected a whole number, received 'five'"),
        ("[training]\nsteps = true", r"'training.steps': expected a whole number, received True"),
        ("[training]\nlr = '1e-4'", r"'training.lr': expected a number"),
        ("[training]\nbetas = 0.9", r"'training.betas': expected a list, received 0.9"),
        ("[training]\nbetas = ['a', 'b']", r"'training.betas\[0\]': expected a number, received 'a'"),
        ("[training]\nema = [true]", r"'training.ema\[0\]': expected a number or text, received True"),
        ("[monitor]\nthreshold = 'low'", r"'monitor.threshold': expected a number, received 'low'"),
        ("training = 3", r"'training': expected a table"),
        ("[training", r"expected a TOML file"),
    ],
    ids=[
        "key",
        "table",
        "type",
        "bool-for-int",
        "text-for-number",
        "betas",
        "betas-text",
        "ema",
        "threshold",
        "no-table",
        "no-toml",
    ],
)
def test_what_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_settings(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "name"),
    [("training = 3", "training.steps"), ("[monitor]\ncontrol = 0.1", "monitor.control.target")],
    ids=["table", "table-in-table"],
)
def test_a_flag_over_something_that_is_no_table_is_refused(tmp_path, text, name):
    where = name.rsplit(".", 1)[0]
    with pytest.raises(InputError, match=f"'{where}': expected a table"):
        read_settings(write(tmp_path, text), {name: 5})


def test_the_documentation_lists_every_entry():
    """To renew it: put what ``memfast.cli.settings.documented()`` returns between the two marks of docs/training.md."""
    page = (Path(__file__).parents[2] / "docs/training.md").read_text()
    listed = page.split("<!-- entries: made by memfast.cli.settings.documented -->\n")[1].split("<!-- end of entries")[
        0
    ]
    assert listed == documented()


def test_every_option_of_the_trainer_is_in_one_place():
    """The signature, the file and the flags follow from ``TrainingConfig``; its defaults are those of all of them."""
    options = {one.name: one.default for one in fields(TrainingConfig)}
    signature = inspect.signature(Trainer).parameters
    assert {name: signature[name].default for name in options} == options
    assert set(signature) - set(options) == {"model", "data", "objective", "out", "config"}
    in_file = {one.name: one.default for one in fields(TrainingSettings)}
    assert in_file == {name: options[name] for name in in_file}
    left = set(options) - set(in_file)
    assert left == {"optimizer", "labels", "resume", "overwrite", "resident", "hooks", "skip", "progress"}
    assert all(f"{name}: " in Trainer.__doc__ for name in options)


def test_tables_that_are_nested_too_deeply_are_an_error_of_ours(tmp_path):
    with pytest.raises(InputError, match="expected a TOML file"):
        read_settings(write(tmp_path, "a = " + "[" * 100_000))


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="nothing there"):
        read_settings(tmp_path / "none.toml")
