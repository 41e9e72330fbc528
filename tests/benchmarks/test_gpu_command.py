"""`python -m benchmarks.gpu`: what it does without a GPU, and how it records."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_1(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "there is no GPU here to measure" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.fixture
def command(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.gpu.__main__ as module

    return module


def test_a_failing_and_a_slow_stage_are_recorded_and_the_rest_runs(command, tmp_path, monkeypatch):
    stages = tuple(command.Stage(f"stage {i}", "none", 60) for i in range(3))
    records = iter(
        [{"failed": "exit code 3", "seconds": 1.0}, {"rows": [{"name": "a", "ms": 2.5}], "seconds": 2.0}, {}]
    )
    monkeypatch.setattr(command, "STAGES", stages)
    monkeypatch.setattr(command, "run_stage", lambda *_: next(records))
    assert command.run_all(tmp_path, None) == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["stages"]) == ["stage 0", "stage 1", "stage 2"]
    table = (tmp_path / "table.md").read_text()
    assert "Failed: exit code 3" in table
    assert "| a | 2.5 |" in table


def test_a_stage_that_fails_is_kept_with_its_words(command, tmp_path):
    # No GPU stage of that name exists: the child ends at once with an error.
    record = command.run_stage(command.Stage("no such stage", "none", 60), tmp_path, 60)
    assert record["failed"].startswith("exit code")
    assert "ValueError" in record["log_tail"]


def test_a_stage_that_does_not_end_is_stopped(command, monkeypatch, tmp_path):
    # In place of Python, a program that outlives every limit of a test run, whatever it is asked to do.
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 3600\n")
    endless.chmod(0o755)
    monkeypatch.setattr(command.sys, "executable", str(endless))
    record = command.run_stage(command.Stage("endless", "none", 60), tmp_path, 0.2)
    assert record["failed"].startswith("stopped after")
    assert record["seconds"] < 60


def test_the_gpu_tests_are_found_where_optional_packages_are_missing(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.gpu import tests

    for name in ("hypothesis", "diffusers", "faiss", "ot", "rich", "typer"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not installed')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*tests.command(), "--collect-only"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("test_normals_have_the_reference_bits", "test_averages_in_a_captured_graph", "test_search_is_exact"):
        assert name in done.stdout


def test_red_tests_mark_the_table(command):
    from benchmarks.gpu.record import table

    text = table({"optional_packages_missing": ["ot"], "stages": {"tests": {"failed": "pytest ended with 1"}}})
    assert "no figure below may be quoted" in text
    assert "Not installed: ot." in text
