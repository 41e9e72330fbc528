"""`memfast train`: what a run keeps when it is stopped, and what its settings may not be."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from memfast.cli import main
from memfast.cli.settings import read_settings
from memfast.cli.train import make_trainer
from memfast.criteria import Absolute
from memfast.models import load_run
from memfast.training import Canaries, Monitor, PowerFunction, Trainer, read_log

SETTINGS = """
[data]
path = "{data}"
{more}
[model]
kind = "mlp"
width = 16
blocks = 1
[training]
steps = 1000000
batch_size = 8
compile = false
checkpoint_every = 1000000
"""


@pytest.fixture
def config(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "train.npy", images)

    def write(more=""):
        path = tmp_path / "run.toml"
        path.write_text(SETTINGS.format(data=tmp_path / "train.npy", more=more))
        return path

    return write


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_run_keeps_a_checkpoint_and_says_how_to_go_on(config, tmp_path, number, code):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "memfast", "train", str(config()), "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 600
        while not ((out / "log.jsonl").exists() and (out / "log.jsonl").stat().st_size) and process.poll() is None:
            assert time.monotonic() < deadline, "the run did not start"
            time.sleep(0.05)
        process.send_signal(number)
        printed, said = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == code
    assert printed == ""
    assert "--resume continues it" in said
    assert "Traceback" not in said
    (checkpoint,) = (out / "checkpoints").iterdir()
    step = json.loads((checkpoint / "state.json").read_text())["step"]
    assert step >= 50
    assert main([*command[3:], "--resume", "--quiet", "--steps", str(step + 1)]) == 0


def test_resuming_with_another_objective_is_refused_by_name(config, tmp_path, capsys):
    command = ["train", str(config()), "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*command, "--steps", "2"]) == 0
    assert main([*command, "--steps", "3", "--resume", "--low", "500", "--high", "900"]) == 1
    assert "objective.timesteps.name is 'uniform' in the checkpoint" in capsys.readouterr().err
    assert main([*command, "--steps", "3", "--resume"]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("limit = 0", "'data.limit': expected at least 1, received 0"),
        ("limit = -1", "'data.limit': expected at least 1, received -1"),
        ("[monitor]\nevery = 1\nsamples = 0", "monitor samples: expected a whole number of at least 1"),
        ("[monitor]\ncontrol = {target = 2}", "control target: expected a finite number above 0 and below 1"),
        ("[monitor]\ncontrol = {target = 0.1}", "control: expected an objective on a ConfidenceInterval"),
        ("[monitor]\ncontrol = {}", "setting monitor.control.target: expected a value, received none"),
        ("[monitor]\ncontrol = 0.1", "setting 'monitor.control': expected a table, received 0.1"),
        ("[monitor]\nenabled = false\nstop_when_memorized = 0.1", "the monitor is off: expected no setting that needs"),
        (
            "[monitor]\ncriterion = 'nnratio'",
            "setting 'monitor.criterion': expected one of nn_ratio (nndr), calibrated",
        ),
        ("[monitor]\ncriterion = 'similarity'", "monitor criterion: expected one of distances alone, like 'nn_ratio'"),
        ("[monitor]\nthreshold = 0", "nn_ratio threshold: expected a finite number above 0, received 0"),
        ("canaries = 'nowhere'", "nowhere"),
        ("canary_repeats = [1, 'b']", "setting 'data.canary_repeats[1]': expected a whole number, received 'b'"),
        ("[skip]\nratios = 0.5", "'skip.ratios': expected one of ratio, bins, decay, warmup, received an unknown key"),
        ("[skip]\nratio = -1.0", "ratio: expected a finite number of at least 0"),
        ("[objective]\ntimesteps = {name = 'confidence_interval', low = 5, high = 5}", "a width above 0"),
        ("[objective.timesteps]\nname = 'confidence_interval'\nlo = 5\nhigh = 6", "unexpected keyword argument 'lo'"),
    ],
    ids=[
        "limit-0",
        "limit-1",
        "monitor",
        "target",
        "control-uniform",
        "control-empty",
        "control-number",
        "monitor-off",
        "no-criterion",
        "features",
        "threshold",
        "no-canaries",
        "repeats",
        "skip-key",
        "skip-ratio",
        "width-0",
        "unknown-argument",
    ],
)
def test_settings_that_cannot_be_used(config, tmp_path, capsys, more, message):
    assert main(["train", str(config(more)), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "run").exists()


def test_settings_of_the_loop_give_the_trainer_what_python_gives_it(config, tmp_path):
    """Settings, weights and averages of both, to the bit."""
    text = config(
        "[monitor]\nevery = 2\nsamples = 4\nsampling_steps = 2\ncriterion = 'dcr'\nthreshold = 0.2"
    ).read_text()
    text = text.replace("steps = 1000000", "epochs = 1.5\nema = ['power-0.1', 0.5]\nbetas = [0.8, 0.9]")
    (tmp_path / "all.toml").write_text(text)
    assert main(["train", str(tmp_path / "all.toml"), "--out", str(tmp_path / "toml"), "--quiet"]) == 0
    Trainer(
        {"kind": "mlp", "width": 16, "blocks": 1}, np.load(tmp_path / "train.npy"), out=tmp_path / "python", epochs=1.5,
        batch_size=8, compile=False, ema=[PowerFunction(0.1), 0.5], betas=(0.8, 0.9), progress=False,
        hooks=[Monitor(every=2, samples=4, steps=2, criterion=Absolute(0.2))],
    ).run()  # fmt: skip
    settings = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("toml", "python")]
    assert settings[0]["training"] == settings[1]["training"]
    assert settings[0]["training"]["optimizer"]["betas"] == [0.8, 0.9]
    assert settings[0]["training"]["hooks"][0]["criterion"] == {"name": "absolute", "threshold": 0.2}
    for weights in ("model", "power-0.1", "0.5"):
        one, two = (load_run(tmp_path / name, weights=weights) for name in ("toml", "python"))
        assert one.step == two.step == 6  # 45 draws
        for name, tensor in one.model.state_dict().items():
            assert torch.equal(tensor, two.model.state_dict()[name])
    audits = [[entry for entry in read_log(tmp_path / name) if "memorized" in entry] for name in ("toml", "python")]
    assert audits[0] == audits[1]
    assert [entry["step"] for entry in audits[0]] == [2, 4, 6]


def test_epochs_and_steps_are_one_or_the_other(config, tmp_path, capsys):
    path = tmp_path / "epochs.toml"
    path.write_text(config().read_text().replace("steps = 1000000", "epochs = 1000"))
    command = ["train", str(path), "--quiet", "--no-monitor", "--out"]
    assert main([*command, str(tmp_path / "a"), "--epochs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 4  # 30 items, 8 at a time
    assert main([*command, str(tmp_path / "b"), "--steps", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 2
    assert main([*command, str(tmp_path / "c"), "--steps", "2", "--epochs", "1"]) == 1
    assert "steps, epochs: expected exactly one of them" in capsys.readouterr().err


def test_entries_of_the_file_are_flags_too(config, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    from PIL import Image

    (tmp_path / "d").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"d/{number}.png")
    command = ["train", str(config()), "--data", str(tmp_path / "d"), "--out", str(tmp_path / "run"), "--quiet"]
    flags = "--steps 4 --image-size 4 --mode L --lr 0.01 --warmup 2 --lr-decay cosine --grad-clip 0.5 --accumulate 2"
    flags += " --hflip --no-tensorboard --log-every 3 --checkpoint-every 2 --keep 1 --precision bfloat16 --no-monitor"
    assert main([*command, *flags.split()]) == 0, capsys.readouterr().err
    settings = json.loads((tmp_path / "run/run.json").read_text())
    assert settings["data"]["format"]["data_shape"] == [4, 4]
    training = settings["training"]
    assert training["lr"] == {"base": 0.01, "warmup": 2, "decay": "cosine"}
    assert (training["grad_clip"], training["accumulate"], training["hflip"]) == (0.5, 2, True)
    assert training["precision"] == "bfloat16"
    assert [entry["step"] for entry in read_log(tmp_path / "run")] == [3, 4]
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000004"]
    for wrong in (["--steps", "0"], ["--keep", "0"], ["--warmup", "-1"], ["--no-such-flag"]):
        assert main([*command, *wrong]) == 2
    assert main([*command, "--steps", "5"]) == 1
    assert "--resume" in capsys.readouterr().err


def test_a_limited_set_keeps_its_names(tmp_path, config):
    from PIL import Image

    (tmp_path / "d").mkdir()
    for name in ("a", "b", "c"):
        Image.new("L", (8, 8)).save(tmp_path / f"d/{name}.png")
    settings = read_settings(config("limit = 2"), {"data.path": str(tmp_path / "d")})
    source = make_trainer(settings, tmp_path / "run", progress=False).source
    assert [source.item_name(index) for index in range(len(source))] == ["a.png", "b.png"]


def test_held_out_images_are_read_like_the_training_images(tmp_path, config):
    from PIL import Image

    for folder, side in (("d", 8), ("h", 12)):
        (tmp_path / folder).mkdir()
        for number in range(4):
            Image.new("L", (side, side), number * 9).save(tmp_path / f"{folder}/{number}.png")
    more = f"image_size = 8\nheld_out = '{tmp_path}/h'\n[monitor]\nevery = 2\nsamples = 4\nsampling_steps = 2"
    overrides = {"data.path": str(tmp_path / "d"), "training.steps": 2}
    trainer = make_trainer(read_settings(config(more), overrides), tmp_path / "run", progress=False)
    assert trainer.run().step == 2


def test_a_run_is_monitored_unless_it_is_switched_off(config, tmp_path):
    def log(name, *flags):
        command = ["train", str(config(more)), "--out", str(tmp_path / name), "--quiet", "--steps", "8", *flags]
        assert main(command) == 0
        return [entry["step"] for entry in read_log(tmp_path / name) if "memorized" in entry]

    # 6 samples of 2 evaluations in steps of 8 draws: 3 % are 17 steps.
    more = "[monitor]\nsamples = 6\nsampling_steps = 2"
    assert log("short") == []
    assert log("long", "--steps", "40") == [17, 34]
    assert log("off", "--steps", "40", "--no-monitor") == []
    assert (tmp_path / "off/run.json").exists()
    assert json.loads((tmp_path / "off/run.json").read_text())["training"]["hooks"] == []


def test_control_canaries_and_skipping_by_settings(config, tmp_path):
    np.save(tmp_path / "known.npy", np.zeros((2, 8, 8), np.uint8))
    more = (
        "canary_repeats = [1, 3]\n[objective.timesteps]\nname = 'confidence_interval'\nlow = 600\nhigh = 900\n"
        "[monitor]\nevery = 2\nsamples = 4\nsampling_steps = 2\n[monitor.control]\ntarget = 0.5\nstride = 0.2\n"
        "[skip]\nratio = 0.9\nwarmup = 1\nbins = 2"
    )
    command = ["train", str(config(more)), "--out", str(tmp_path / "run"), "--quiet", "--steps", "4"]
    assert main([*command, "--canaries", str(tmp_path / "known.npy"), "--control", "0.9"]) == 0
    settings = json.loads((tmp_path / "run/run.json").read_text())
    assert settings["data"]["count"] == 34
    assert settings["training"]["skip"] == {"ratio": 0.9, "bins": 2, "decay": 0.99, "warmup": 1}
    control = settings["training"]["hooks"][0]["control"]
    assert (control["target"], control["stride"]) == (0.9, 0.2)
    audits = [entry for entry in read_log(tmp_path / "run") if "memorized" in entry]
    assert [len(entry["canaries"]) for entry in audits] == [2, 2]
    assert Canaries.load(tmp_path / "run").repeats.tolist() == [1, 3]
    np.save(tmp_path / "samples.npy", np.concatenate([np.zeros((3, 8, 8), np.uint8), np.full((2, 8, 8), 99, np.uint8)]))
    audit = ["audit", str(tmp_path / "samples.npy"), str(tmp_path / "train.npy"), "--quiet", "--no-controls"]
    assert main([*audit, "--run", str(tmp_path / "run"), "--out", str(tmp_path / "audit")]) == 0
    found = json.loads((tmp_path / "audit/result.json").read_text())["canaries"]
    assert [group["repeats"] for group in found["groups"]] == [1, 3]
    assert found["each"][0]["samples"]["nn_ratio"] == 3
    assert main([*audit, "--canaries", str(tmp_path / "known.npy"), "--out", str(tmp_path / "audit2")]) == 0
    found = json.loads((tmp_path / "audit2/result.json").read_text())["canaries"]
    assert [group["repeats"] for group in found["groups"]] == [None]


def test_weights_to_start_from_bring_their_network_along(config, tmp_path, capsys):
    short = ["--steps", "1", "--no-monitor", "--quiet"]
    assert main(["train", str(config()), "--out", str(tmp_path / "first"), *short]) == 0
    data = ["--data", str(tmp_path / "train.npy"), "--batch-size", "8"]
    tuned = ["train", *data, "--start", str(tmp_path / "first"), "--out", str(tmp_path / "second"), *short]
    assert main(tuned) == 0, capsys.readouterr().err
    assert load_run(tmp_path / "second").settings["model"] == load_run(tmp_path / "first").settings["model"]
