"""Runs (study, seed) jobs in worker processes and stores each result as it comes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from memfast.runtime.files import read_json
from studies import results
from studies.study import Size, Study

ROOT = Path(__file__).resolve().parents[1]
# One thread a job: these networks are too small for two, and spinning threads slow the other jobs.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
LINES_OF_ERROR = 15


class Job(NamedTuple):
    """One study at one size and seed."""

    study: Study
    size: Size
    seed: int

    def __str__(self) -> str:
        return f"{self.study.slug} {self.size.name} seed {self.seed}"


class JobError(RuntimeError):
    """A job failed; the text holds the end of what it printed."""


def run_jobs(
    jobs: Sequence[Job], *, workers: int, data: str | None, resume: bool, folder: Path | None = None
) -> list[Job]:
    """Run the jobs, ``workers`` at a time, and store their results; returns those that failed.

    A study's old results are replaced by its first finished job; with ``resume``, seeds that finished under the same
    settings are kept and not run again.
    """
    todo = list(jobs)
    if resume:
        todo = [job for job in jobs if job.seed not in results.finished_seeds(job.study, job.size, folder)]
        print(f"{len(jobs) - len(todo)} of {len(jobs)} jobs are finished already", file=sys.stderr, flush=True)
    begun: set[str] = set()
    failed: list[Job] = []
    started = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(_run, job, data): job for job in todo}
        for number, future in enumerate(as_completed(running), start=1):
            job, place = running[future], f"[{number}/{len(todo)}, {time.monotonic() - started:.0f} s]"
            try:
                entry = future.result()
            except JobError as error:
                failed.append(job)
                print(f"{place} {job} FAILED\n{error}", file=sys.stderr, flush=True)
                continue
            results.add(job.study, job.size, entry, fresh=not resume and job.study.slug not in begun, folder=folder)
            begun.add(job.study.slug)
            took = f"{entry['seconds']:.0f} s, {entry['cpu_seconds']:.0f} s of processor"
            print(f"{place} {job}: {took}", file=sys.stderr, flush=True)
    return failed


def _run(job: Job, data: str | None) -> dict[str, Any]:
    print(f"{job}: started", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [
            sys.executable, "-m", "studies.job", job.study.slug, job.size.name, str(job.seed), str(out),
            *([] if data is None else [str(Path(data).resolve())]),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode != 0 or not out.is_file():
            last = "\n".join(done.stdout.strip().splitlines()[-LINES_OF_ERROR:])
            raise JobError(f"exit code {done.returncode}\n{last}")
        return read_json(out)
