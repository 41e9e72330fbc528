"""Times on the device: events around replays, medians, and inputs that rotate so that the cache holds none of them."""

from collections.abc import Callable, Sequence

import torch

WARM_UP, REPEATS = 5, 30
L2_MULTIPLE = 4


def device_ms(calls: Sequence[Callable[[], object]], repeats: int = REPEATS) -> float:
    """Median milliseconds of one call; the calls take turns, each on inputs of its own."""
    for i in range(max(WARM_UP, len(calls))):
        calls[i % len(calls)]()
    torch.cuda.synchronize()
    begin = [torch.cuda.Event(enable_timing=True) for _ in range(repeats)]
    end = [torch.cuda.Event(enable_timing=True) for _ in range(repeats)]
    for i in range(repeats):
        begin[i].record()
        calls[i % len(calls)]()
        end[i].record()
    torch.cuda.synchronize()
    times = sorted(b.elapsed_time(e) for b, e in zip(begin, end, strict=True))
    return times[len(times) // 2]


def replay_ms(calls: Sequence[Callable[[], object]], repeats: int = REPEATS) -> float:
    """The same through CUDA graphs: without Python's time between launches."""
    return device_ms([captured(call) for call in calls], repeats)


def captured(call: Callable[[], object]) -> Callable[[], None]:
    """A graph of the call, as a function that replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()
    # The graph writes into these tensors; they must live as long as it does.
    graph.kept = kept if isinstance(kept, tuple) else (kept,)
    return graph.replay


def copies_for(bytes_each: int, most: int = 8) -> int:
    """How many sets of inputs exceed the cache together."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(1, min(most, -(-L2_MULTIPLE * cache // max(1, bytes_each))))


def copy_bandwidth(gigabytes: float = 2.0) -> float:
    """Bytes per second, read plus written, of a device-to-device copy of random data."""
    source = torch.randint(-(2**31), 2**31 - 1, (int(gigabytes * 2**28),), dtype=torch.int32, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / (device_ms([lambda: target.copy_(source)]) / 1e3)
