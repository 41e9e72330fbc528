"""``memfast trace`` on a diffusers pipeline: without network, pickles or code from the folder."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memfast.cli import main

FEW = ["--seeds", "2", "--steps", "4", "--quiet"]


def built(module, name, *arguments):
    """A pipeline of the trace's tests."""
    folder = str(Path(__file__).parents[1] / "trace")
    sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), name)(*arguments)
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    sys.path.insert(0, str(Path(__file__).parents[1] / "trace"))
    try:
        from tiny_pipeline import tiny_pipeline
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline(tmp_path_factory.mktemp("tokenizer")).save_pretrained(folder)
    return folder


def test_a_pipeline_is_traced(pipeline, tmp_path, capfd):
    (tmp_path / "images").mkdir()
    for name, side in (("one.png", 16), ("two.png", 40)):
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    (tmp_path / "p.csv").write_text('name,prompt,memorized,target\nx,a b,yes,two\n,"c, d",no,one.png\nz,e,,\n')
    arguments = ["--prompts", str(tmp_path / "p.csv"), "--targets", str(tmp_path / "images"), "--guidance", "2"]
    assert main(["trace", str(pipeline), *arguments, *FEW, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = capfd.readouterr()
    facts = json.loads(printed.out)
    assert "Loading" not in printed.err
    assert [(one["name"], one["memorized"], one["d1"] is None) for one in facts["conditions"]] == [
        ("x", True, False), ("c, d", False, False), ("z", None, True),
    ]  # fmt: skip
    assert (facts["source"]["family"], facts["sampler"]["method"]) == ("diffusers", "DDIMScheduler")
    assert (tmp_path / "out/trace.html").is_file()


def test_a_rule_guides_a_pipeline(pipeline, tmp_path, capfd):
    (tmp_path / "p.txt").write_text("a b\n")
    arguments = ["--prompts", str(tmp_path / "p.txt"), "--guidance-rule", "opposite", "--guidance", "3"]
    assert main(["trace", str(pipeline), *arguments, *FEW, "--json", "--out", str(tmp_path / "out")]) == 0
    rule = {"name": "delayed", "until": 0.65, "scale": 3.0, "before": -2.0}
    assert json.loads(capfd.readouterr().out)["sampler"]["guidance"] == rule
    assert "delayed (until 0.65, scale 3, before -2)" in (tmp_path / "out/trace.html").read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unet": ["evil", "Model"]}, "received ['evil', 'Model']. Code that comes with a pipeline is never run."),
        ({"unet": ["os", "system"]}, "received ['os', 'system']"),
        ({"_class_name": ["evil", "Pipeline"]}, "expected a pipeline class of diffusers"),
        ({"_class_name": "NoSuchPipeline"}, "expected a pipeline saved by diffusers"),
        (None, "expected the index of a diffusers pipeline"),
    ],
    ids=["part", "module", "class", "unknown", "broken"],
)
def test_no_code_from_a_pipelines_folder_is_run(pipeline, tmp_path, capsys, change, words):
    folder = tmp_path / "pipe"
    (folder / "unet").mkdir(parents=True)
    for place in (folder / "evil.py", folder / "unet/evil.py"):
        place.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: pass\nPipeline = Model\n")
    index = json.loads((pipeline / "model_index.json").read_text())
    (folder / "model_index.json").write_text("{" if change is None else json.dumps({**index, **change}))
    (tmp_path / "p.txt").write_text("a\n")
    assert main(["trace", str(folder), "--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused(pipeline, tmp_path, capsys):
    folder = tmp_path / "pipe"
    shutil.copytree(pipeline, folder)
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet/diffusion_pytorch_model.bin")
    (tmp_path / "p.txt").write_text("a\n")
    assert main(["trace", str(folder), "--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "out")]) == 1
    assert "safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--prompts: expected a file of prompts"),
        (["--labels", "0"], "--labels: expected a run of `memfast train`, received a diffusers pipeline"),
        (["--prompts", "p.txt", "--guidance-rule", "late"], "--guidance-rule: expected one of delayed, opposite"),
        (["--prompts", "l.json"], "condition 'class 3': expected a prompt, received a label"),
        (["--prompts", "p.txt", "--dtype", "int8"], "--dtype: expected one of float32"),
        (["--prompts", "p.txt", "--method", "heun"], "--method: expected ddim or own"),
    ],
    ids=["no-prompts", "labels", "rule", "label", "dtype", "method"],
)
def test_what_a_pipeline_cannot_do(pipeline, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("l.json").write_text("[3]")
    Path("p.txt").write_text("a\n")
    assert main(["trace", str(pipeline), *arguments, *FEW, "--out", "out"]) == 1
    assert words in capsys.readouterr().err


def prompts_in(folder, text="a b\n"):
    (folder / "p.txt").write_text(text)
    return ["--prompts", str(folder / "p.txt"), "--guidance", "2"]


@pytest.mark.parametrize("kind", ["PNDMScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("clips", [None, True, False], ids=str)
def test_ddim_clips_only_where_the_saved_scheduler_does(pipeline, kind, clips):
    diffusers = pytest.importorskip("diffusers")
    from memfast.cli.trace_sources import ddim_scheduler

    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    config |= {} if clips is None else {"clip_sample": clips}
    made = ddim_scheduler(getattr(diffusers, kind).from_config(config))
    # DDPM and DDIM clip by default; the others never do, whatever their configuration carries.
    own = kind in ("DDPMScheduler", "DDIMScheduler") and clips is not False
    assert made.config.clip_sample is own


def test_a_saved_scheduler_without_the_key_is_traced_without_clipping(pipeline, tmp_path):
    folder = tmp_path / "pipe"
    shutil.copytree(pipeline, folder)
    path = folder / "scheduler/scheduler_config.json"
    config = json.loads(path.read_text())
    config.pop("clip_sample")
    path.write_text(json.dumps({**config, "_class_name": "PNDMScheduler", "skip_prk_steps": True}))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", "PNDMScheduler"]}))
    losses = []
    for number, where in enumerate((pipeline, folder)):
        out = tmp_path / str(number)
        assert main(["trace", str(where), *prompts_in(tmp_path), *FEW, "--out", str(out)]) == 0
        losses.append(json.loads((out / "trace.json").read_text())["conditions"][0]["loss"]["guided"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("steps", [["--method", "own"], []], ids=["own", "ddim"])
def test_a_stochastic_pipeline_gives_the_same_trace_twice(pipeline, tmp_path, steps):
    folder = tmp_path / "pipe"
    shutil.copytree(pipeline, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", "DDPMScheduler"]}))
    found = []
    for number in range(2):
        arguments = [*prompts_in(tmp_path), *steps, *FEW, "--out", str(tmp_path / str(number))]
        assert main(["trace", str(folder), *arguments]) == 0
        found.append((tmp_path / str(number) / "trace.csv").read_bytes())
    assert found[0] == found[1]


def test_weights_of_a_variant_are_named_and_found(pipeline, tmp_path, capsys):
    folder = tmp_path / "pipe"
    shutil.copytree(pipeline, folder)
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    arguments = ["trace", str(folder), *prompts_in(tmp_path), *FEW, "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "Its weights are there as --variant fp16." in capsys.readouterr().err
    assert main([*arguments, "--variant", "fp16"]) == 0


def test_stable_diffusion_3_from_a_folder_crops_its_targets(tmp_path, capsys):
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    (tmp_path / "words").mkdir()
    built("tiny_pipelines", "sd3", tmp_path / "words").save_pretrained(tmp_path / "pipe")
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images/one.png")
    arguments = [*prompts_in(tmp_path), "--targets", str(tmp_path / "images"), *FEW, "--json"]
    assert main(["trace", str(tmp_path / "pipe"), *arguments, "--out", str(tmp_path / "out")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sampler"]["method"] == "FlowMatchEulerDiscreteScheduler"
    assert facts["conditions"][0]["d1"] is not None
    ddim = ["trace", str(tmp_path / "pipe"), *arguments, "--method", "ddim", "--out", str(tmp_path / "other")]
    assert main(ddim) == 1
    assert "--method ddim: expected a pipeline with betas, received a pipeline of flow" in capsys.readouterr().err


def test_a_pipeline_of_another_form_is_refused_in_one_line(tmp_path, capsys):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2, layers_per_block=1,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "pipe")
    assert main(["trace", str(tmp_path / "pipe"), *prompts_in(tmp_path), *FEW, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "received DDPMPipeline, whose call takes no prompt" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
