"""`memfast evaluate`: names in full, options of metrics, class probabilities, reasons."""

import json
import subprocess
import sys

import numpy as np
import pytest

from memfast import metrics
from memfast.cli import main


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    generator = np.random.default_rng(0)
    for name, count in (("gen", 60), ("train", 80), ("held", 70)):
        np.save(folder / f"{name}.npy", generator.standard_normal((count, 5)))
    scores = generator.random((60, 4))
    np.save(folder / "classes.npy", scores / scores.sum(1, keepdims=True))
    return folder


def command(sets, *more):
    return ["evaluate", str(sets / "gen.npy"), str(sets / "train.npy"), "--quiet", *more]


def test_names_are_whole_in_a_file(sets, tmp_path):
    """A file counts as 80 columns for rich, which cut the names of the catalogue there."""
    out = tmp_path / "out.txt"
    names = "projected,sliced_wasserstein,kernel,fld"
    with open(out, "w") as file:
        subprocess.run(
            [sys.executable, "-m", "memfast", *command(sets, "--test", str(sets / "held.npy"), "--metrics", names)],
            stdout=file, check=True,
        )  # fmt: skip
    text = out.read_text()
    for name in ("wasserstein_1_components_2", "jensen_shannon_components_2", "generalization_gap", "95 % interval"):
        assert name in text
    assert "…" not in text
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert rows["kernel_distance"].split()[-2:] == ["lower", "lower"]


def test_options_of_metrics(sets, capsys):
    options = ["--metrics", "prdc,c_t", "--option", "prdc.k=3", "--option", "c_t.cells=2"]
    options += ["--option", "c_t.components=null"]
    assert main(command(sets, "--test", str(sets / "held.npy"), "--json", *options)) == 0
    found = json.loads(capsys.readouterr().out)
    x, y, t = (np.load(sets / f"{name}.npy") for name in ("gen", "train", "held"))
    assert found["density"]["value"] == metrics.precision_recall_density_coverage(y, x, 3).density
    assert found["c_t"]["value"] == metrics.c_t(x, y, t, cells=2).value
    text = '{"c_t": {"cells": 2}}'
    assert main(command(sets, "--test", str(sets / "held.npy"), "--json", "--metrics", text)) == 0
    assert json.loads(capsys.readouterr().out)["c_t"]["value"] == found["c_t"]["value"]


def test_class_probabilities_and_reasons(sets, capsys):
    classes = ["--class-probabilities", str(sets / "classes.npy")]
    assert main(command(sets, "--metrics", "inception_score", *classes)) == 0
    value = metrics.inception_score(np.load(sets / "classes.npy")).value
    assert f"{value:.4g}" in capsys.readouterr().out
    assert main(command(sets, "--metrics", "inception_score,l2")) == 0
    told = capsys.readouterr().out
    assert "not computed: inception_score: needs the class probabilities of the generated samples" in told
    assert "l2_nearest" in told


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--option", "cells=2"], "--option: expected METRIC.NAME=VALUE"),
        (["--option", "c_t.cells"], "--option: expected METRIC.NAME=VALUE"),
        (["--option", "nothing.cells=2"], "--option: expected one of"),
        (["--metrics", "l2", "--option", "prdc.k=2"], "--option: expected metrics that --metrics chose, received prdc"),
        (["--option", "prdc.q=2"], "its own arguments (k, closed)"),
        (["--option", "prdc.k=none"], "k: expected a whole number of at least 1, received 'none'"),
        (["--class-probabilities", "nowhere.npy"], "--class-probabilities nowhere.npy: expected an npy file"),
        (["--metrics", "fld"], "test: expected a held-out set"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(sets, tmp_path, capsys, more, words):
    assert main(command(sets, "--out", str(tmp_path / "out"), *more)) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
