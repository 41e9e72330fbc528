"""Commands of memfast in processes that can be killed.

`Warm` imports memfast once and forks for every command: a start takes milliseconds, so hundreds of kills are
affordable. `Launched` starts the real thing, for the long form.
"""

import contextlib
import ctypes
import importlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import memfast

ROOT = Path(memfast.__file__).parents[1]
CHANGES, READS = 1, 2
FAIL, KEEP_FAILING, SHORTEN, KILL, JUMP = 1, 2, 3, 4, 5
LATE = 99  # the code of a rank that had to be killed
# Every rank of a job ends within this many seconds of another's failure or death.
TOGETHER_SECONDS = 30.0


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th operation on files below a folder; position 0 only counts them."""

    folder: Path
    position: int = 0
    action: int = KILL
    error: int = 0
    kinds: int = CHANGES


@dataclass
class Ended:
    """How a command ended, rank by rank: codes as Python gives them (negative: the signal), and what it printed."""

    codes: list[int]
    errors: list[str]
    printed: str
    operations: list[int]
    seconds: float

    @property
    def code(self) -> int:
        return self.codes[0]

    @property
    def text(self) -> str:
        return "".join(self.errors)

    @property
    def raw(self) -> bool:
        """Whether a traceback reached the user."""
        return "Traceback (most recent call last)" in self.text


class Warm:
    """A process that has imported memfast and forks for each command. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.library = compiled_faults(folder)
        environment = {**environment_of_commands(), **({"LD_PRELOAD": str(self.library)} if self.library else {})}
        command = [sys.executable, __file__, str(self.library or "")]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self.pid = self._server.pid
        assert self._read() == "ready"

    def __enter__(self) -> "Warm":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.wait()

    def start(
        self, arguments: list[str], *, ranks: int = 1, fault: Fault | None = None, faulty_rank: int = 0, memory: int = 0
    ) -> "Job":
        """Start a command on so many ranks; the fault, or a limit of memory in bytes, meets one of them."""
        jobs = []
        port = free_port() if ranks > 1 else 0
        for rank in range(ranks):
            errors = Path(tempfile.mkstemp(dir=self.folder, suffix=".stderr")[1])
            environment = ranks_environment(rank, ranks, port) if ranks > 1 else {}
            job = {
                "arguments": arguments,
                "environment": environment,
                "stderr": str(errors),
                "fault": None,
                "memory": 0,
            }
            if rank == faulty_rank:
                job["memory"] = memory
            if fault is not None and rank == faulty_rank:
                job["fault"] = [str(fault.folder), fault.kinds, fault.position, fault.action, fault.error]
            jobs.append(job)
        self._server.stdin.write(json.dumps(jobs) + "\n")
        self._server.stdin.flush()
        return Job(self, self._read(), [Path(job["stderr"]) for job in jobs])

    def run(self, arguments: list[str], **options: object) -> Ended:
        """Run a command to its end."""
        return self.start(arguments, **options).wait()

    def _read(self) -> object:
        line = self._server.stdout.readline()
        assert line, "the warm process has ended"
        return json.loads(line)


class Job:
    """A running command."""

    def __init__(self, server: Warm, pids: list[int], errors: list[Path]) -> None:
        self._server, self.pids, self._errors, self.started = server, pids, errors, time.monotonic()

    def send(self, number: int, ranks: list[int] | None = None) -> None:
        """Send a signal to these ranks, or to all."""
        for rank in range(len(self.pids)) if ranks is None else ranks:
            if _parent(self.pids[rank]) == self._server.pid:  # the number may belong to somebody else by now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pids[rank], number)

    def wait(self) -> Ended:
        """How it ended."""
        codes = self._server._read()
        texts = [path.read_text(errors="replace") for path in self._errors]
        counts = [Path(f"{path}.count") for path in self._errors]
        operations = [int(path.read_text()) if path.exists() else 0 for path in counts]
        printed = [Path(f"{path}.out") for path in self._errors]
        text = "".join(path.read_text(errors="replace") for path in printed if path.exists())
        for path in (*self._errors, *counts, *printed):
            path.unlink(missing_ok=True)
        return Ended(codes, texts, text, operations, time.monotonic() - self.started)


class Launched:
    """A command under the real launcher, ``torchrun``, or as one real process: seconds to start, nothing left out."""

    def __init__(self, arguments: list[str], ranks: int) -> None:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        self._mark = f"SOAK_JOB={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read after the processes have ended
        self._process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "memfast", *arguments], stdout=subprocess.DEVNULL, stderr=self._errors,
            start_new_session=True, env={**environment_of_commands(), name: value}, cwd=ROOT,
        )  # fmt: skip

    def kill_launcher(self) -> None:
        """Kill the process that was started; its ranks know nothing of it."""
        self._process.kill()

    def wait(self) -> tuple[int, str]:
        """Its exit code and what it and its ranks printed."""
        code = self._process.wait()
        self._errors.seek(0)
        return code, self._errors.read()

    def remaining(self, seconds: float = TOGETHER_SECONDS) -> list[int]:
        """Processes of the job that still run after so many seconds; they are killed."""
        end = time.monotonic() + seconds
        while (left := self._living()) and time.monotonic() < end:
            time.sleep(0.2)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def _living(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (path / "environ").read_bytes():
                    found.append(int(path.name))
        return found


def environment_of_commands() -> dict[str, str]:
    """One thread a process: the machine is shared, and a fork keeps no threads."""
    fixed = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0", "COLUMNS": "100"}
    return {**os.environ, **fixed, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def ranks_environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What ``torchrun`` tells its processes."""
    facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in facts.items()}


def free_port() -> int:
    """A port below those that the system hands out by itself."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def compiled_faults(folder: Path) -> Path | None:
    """``faults.c`` as a library to preload; None without a C compiler."""
    library = folder / "faults.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("faults.c")), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


def _serve(library: str) -> None:
    """The warm process: one line of jobs in, their process ids out, their exit codes out."""
    from memfast.cli import main

    for package in ("auditing", "reports", "trace", "training"):
        importlib.import_module(f"memfast.{package}")

    faults = ctypes.CDLL(library) if library else None
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print('"ready"', file=answers, flush=True)
    for line in sys.stdin:
        pids = []
        for job in json.loads(line):
            pid = os.fork()
            if pid == 0:
                answers.close()
                _child(job, main, faults)
            pids.append(pid)
        print(json.dumps(pids), file=answers, flush=True)
        print(json.dumps(_reaped(pids)), file=answers, flush=True)


def _reaped(pids: list[int]) -> list[int]:
    """Exit codes in the order of the ranks. Once one has failed, the others must end by themselves in time."""
    codes: dict[int, int] = {}
    deadline = None
    while len(codes) < len(pids):
        for pid in set(pids) - set(codes):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if deadline is None and any(codes.values()):
            deadline = time.monotonic() + TOGETHER_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            for pid in set(pids) - set(codes):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                codes[pid] = LATE
        time.sleep(0.005)
    return [codes[pid] for pid in pids]


def _child(job: dict, main: object, faults: object) -> None:
    os.environ.update(job["environment"])
    os.dup2(os.open(job["stderr"], os.O_WRONLY | os.O_TRUNC), 2)
    os.dup2(os.open(f"{job['stderr']}.out", os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code, running = 70, True

    def interrupt(*_: object) -> None:
        if running:  # what comes after the command's end would meet the harness
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        if job["memory"]:
            resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
        if job["fault"] is not None:
            folder, *numbers = job["fault"]
            faults.arm(folder.encode(), numbers[0], ctypes.c_long(numbers[1]), *numbers[2:])
        code, running = main(job["arguments"]), False
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        running = False
        sys.stdout.flush()
        sys.stderr.flush()
        if job["fault"] is not None:
            count = faults.counted()
            faults.arm(b"", 0, ctypes.c_long(0), 0, 0)
            Path(f"{job['stderr']}.count").write_text(str(count))
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
