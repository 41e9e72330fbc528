"""How much memory this process may still take: the machine's, its container's and its own limit, whichever is least."""

from pathlib import Path
from typing import Any

from memfast.foundation.arguments import whole_number

# Where the system says nothing of its memory.
FALLBACK_FREE = 4 << 30


def free_memory() -> int:
    """Bytes that this process may still allocate: free on the machine, within its cgroups and within ``ulimit``."""
    free = [_machine_room(), *_cgroup_rooms(), *_ulimit_rooms()]
    return max(0, min([one for one in free if one is not None], default=FALLBACK_FREE))


def bytes_allowed(memory: Any) -> int:
    """A memory budget as a whole number of bytes; whole floats such as 4e9 count.

    Raises:
        InputError: it is something else.
    """
    if isinstance(memory, float) and memory.is_integer():
        memory = int(memory)
    return whole_number("memory", memory, least=0, words="a number of bytes", do="2 GiB are 2 * 2**30.")


def _machine_room() -> int | None:
    return _kibibytes(Path("/proc/meminfo"), "MemAvailable:")


def _cgroup_rooms() -> list[int | None]:
    """What is left in each cgroup from this process's own up to the root: every one of them limits it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    rooms: list[int | None] = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            rooms += [_room_in(folder, "memory.max", "memory.current") for folder in _folders("/sys/fs/cgroup", place)]
        elif "memory" in controllers.split(","):
            rooms += [
                _room_in(folder, "memory.limit_in_bytes", "memory.usage_in_bytes")
                for folder in _folders("/sys/fs/cgroup/memory", place)
            ]
    return rooms


def _folders(root: str, place: str) -> list[Path]:
    # Inside a container the path of the host may not exist: its own limits then lie at the root.
    own = Path(root) / place.lstrip("/")
    return [folder for folder in (own, *own.parents) if str(folder).startswith(root)]


def _room_in(folder: Path, limit_file: str, usage_file: str) -> int | None:
    try:
        limit = (folder / limit_file).read_text().strip()
        if limit == "max":
            return None
        used = int((folder / usage_file).read_text())
        return int(limit) - used + _reclaimable(folder)
    except (OSError, ValueError):
        return None


def _reclaimable(folder: Path) -> int:
    """Pages of files that the kernel drops when the group needs memory; they count as used."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    found = dict(line.split() for line in lines if len(line.split()) == 2)
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))


def _ulimit_rooms() -> list[int | None]:
    try:
        import resource
    except ImportError:
        return []
    rooms: list[int | None] = []
    for limit, used in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        soft, taken = resource.getrlimit(limit)[0], _kibibytes(Path("/proc/self/status"), used)
        rooms.append(None if soft == resource.RLIM_INFINITY or taken is None else soft - taken)
    return rooms


def _kibibytes(path: Path, name: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
