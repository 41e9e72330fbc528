"""Runs the stages one after the other, each in a process of its own, within its time; writes after each.

A stage that fails or runs out of time is recorded and the next one runs. Exit code 0: every stage is done; 1: no GPU,
or some stage failed (results.json says which and why).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOTAL_SECONDS = 525
OPTIONAL = ("diffusers", "faiss", "ot", "pytest", "triton", "typer", "rich")


@dataclass(frozen=True)
class Stage:
    """One stage: the module that runs it as ``run() -> dict`` and its share of the time."""

    name: str
    module: str
    seconds: int


STAGES = (
    Stage("build", "benchmarks.gpu.build", 150),
    # Most of it is compiling: about 100 specialisations of Triton kernels, 0.5 to 4 s of one core each.
    Stage("tests", "benchmarks.gpu.tests", 220),
    Stage("machine", "benchmarks.gpu.machine", 40),
    Stage("noise and loss", "benchmarks.gpu.elementwise", 110),
    Stage("training step", "benchmarks.gpu.steps", 150),
    Stage("averages", "benchmarks.gpu.averages", 40),
    Stage("nearest neighbours", "benchmarks.gpu.search", 90),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, table.md and the logs")
    parser.add_argument("--only", nargs="*", help="names of the stages to run, in place of all")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.stage:
        return run_here(arguments.stage, arguments.out)
    reason = why_no_gpu()
    if reason:
        print(f"benchmarks.gpu: there is no GPU here to measure: {reason}", file=sys.stderr)
        return 1
    return run_all(arguments.out, arguments.only)


def why_no_gpu() -> str | None:
    """None where PyTorch sees an NVIDIA GPU, otherwise what is missing."""
    try:
        import torch
    except ImportError as error:
        return f"PyTorch cannot be imported ({error})"
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "PyTorch sees no NVIDIA device (nvidia-smi shows what the driver sees)"
    return None


def run_all(out: Path, only: list[str] | None) -> int:
    started = time.monotonic()
    results: dict = {"optional_packages_missing": missing_packages(), "stages": {}}
    for package in results["optional_packages_missing"]:
        print(f"{package} is not installed here; what needs it is left out", flush=True)
    for stage in STAGES:
        if only and stage.name not in only:
            continue
        left = TOTAL_SECONDS - (time.monotonic() - started)
        record = run_stage(stage, out, min(stage.seconds, left)) if left > 5 else {"failed": "no time was left"}
        results["stages"][stage.name] = record
        results["seconds"] = round(time.monotonic() - started, 1)
        write(out, results)
        print(f"{stage.name}: {record.get('failed', 'done')} ({record.get('seconds', 0)} s)", flush=True)
    print((out / "table.md").read_text())
    return int(any("failed" in record for record in results["stages"].values()))


def run_stage(stage: Stage, out: Path, seconds: float) -> dict:
    """Run a stage in its own process: a crashed kernel poisons only that process."""
    kept = out / f"{stage.name.replace(' ', '_')}.json"
    kept.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--stage", stage.name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    began, failure = time.monotonic(), None
    with open(out / f"{stage.name.replace(' ', '_')}.log", "w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
            failure = None if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            failure = f"stopped after its {seconds:.0f} s"
    record = json.loads(kept.read_text()) if kept.exists() else {}
    record["seconds"] = round(time.monotonic() - began, 1)
    if failure:
        record["failed"] = record.get("failed", failure)
        record["log_tail"] = Path(log.name).read_text(errors="replace")[-2000:]
    return record


def run_here(name: str, out: Path) -> int:
    """Run one stage in this process; every finished row is on disk before the next begins."""
    import importlib

    from benchmarks.gpu.record import Record

    (stage,) = (stage for stage in STAGES if stage.name == name)
    record = Record(out / f"{stage.name.replace(' ', '_')}.json")
    return importlib.import_module(stage.module).run(record)


def missing_packages() -> list[str]:
    import importlib.util

    return [name for name in OPTIONAL if importlib.util.find_spec(name) is None]


def write(out: Path, results: dict) -> None:
    from benchmarks.gpu.record import table

    temporary = out / "results.json.part"
    temporary.write_text(json.dumps(results, indent=1))
    temporary.replace(out / "results.json")
    (out / "table.md").write_text(table(results))


if __name__ == "__main__":
    sys.exit(main())
