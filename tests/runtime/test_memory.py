"""Free memory is the least of the machine's, the cgroups' and the process's own limit."""

import subprocess
import sys

import pytest

from memfast.foundation.errors import InputError
from memfast.runtime import memory

GIB = 2**30


def test_no_more_than_the_machine_has():
    with open("/proc/meminfo") as file:
        total = int(next(line for line in file if line.startswith("MemTotal:")).split()[1]) * 1024
    assert 0 < memory.free_memory() <= total


def test_ulimit_is_respected():
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    code += "from memfast.runtime.memory import free_memory; print(free_memory())"
    found = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0 < found < 3 * GIB


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A tree of cgroups in a folder, in the place of the system's."""
    real = memory.Path

    def path(text):
        text = str(text)
        if text == "/proc/self/cgroup":
            return real(tmp_path / "self")
        return real(tmp_path / text.lstrip("/")) if text.startswith("/sys/fs/cgroup") else real(text)

    monkeypatch.setattr(memory, "Path", path)
    monkeypatch.setattr(memory, "_folders", lambda root, place: _folders(tmp_path, root, place))

    def write(place, **values):
        folder = tmp_path / place.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (folder / name.replace("__", ".")).write_text(str(value))

    return tmp_path, write


def _folders(base, root, place):
    top = base / root.lstrip("/")
    own = top / place.lstrip("/")
    return [folder for folder in (own, *own.parents) if str(folder).startswith(str(top))]


def test_the_tightest_group_on_the_way_up_counts(cgroup):
    folder, write = cgroup
    (folder / "self").write_text("0::/job/worker\n")
    write("/sys/fs/cgroup/job/worker", memory__max="max", memory__current=0)
    write(
        "/sys/fs/cgroup/job", memory__max=3 * GIB, memory__current=2 * GIB, memory__stat=f"inactive_file {GIB // 2}\n"
    )
    assert memory.free_memory() == GIB + GIB // 2


def test_groups_of_the_first_kind_count_too(cgroup):
    folder, write = cgroup
    (folder / "self").write_text("7:cpu,cpuacct:/x\n4:memory:/box\n")
    write("/sys/fs/cgroup/memory/box", memory__limit_in_bytes=GIB, memory__usage_in_bytes=GIB // 4)
    assert memory.free_memory() == GIB - GIB // 4


def test_inside_a_container_its_limit_lies_at_the_root(cgroup):
    folder, write = cgroup
    (folder / "self").write_text("0::/host/only/path\n")
    write("/sys/fs/cgroup", memory__max=GIB, memory__current=2 * GIB)
    assert memory.free_memory() == 0


@pytest.mark.parametrize(("given", "bytes_"), [(4e9, 4_000_000_000), (0, 0), (2**40, 2**40)])
def test_a_budget_is_a_number_of_bytes(given, bytes_):
    assert memory.bytes_allowed(given) == bytes_


@pytest.mark.parametrize("given", ["2GB", 1.5, -1, float("nan"), None])
def test_anything_else_is_refused(given):
    with pytest.raises(InputError, match="memory: expected a number of bytes"):
        memory.bytes_allowed(given)
