"""``memfast trace`` on a diffusers pipeline: without network, pickles or code from the folder."""

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
