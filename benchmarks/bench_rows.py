"""Every row under pytest-benchmark. One round times both sides, in turns, so that a busy moment hits both."""

import itertools
import statistics
import time

import pytest

from benchmarks.rows import packages_with_rows, rows_of

MOST_ROUNDS = 60
CASES = [(package, row) for package in packages_with_rows() for row in rows_of(package)]


@pytest.mark.parametrize(("package", "row"), CASES, ids=[f"{package}/{row.name}" for package, row in CASES])
def test_row(package, row, benchmark, request):
    seconds = float(request.config.getoption("benchmark_max_time"))
    ours, peer = row.make()
    for side in (ours, peer):
        side()
    times: tuple[list[float], list[float]] = ([], [])
    order = itertools.cycle((((0, ours), (1, peer)), ((1, peer), (0, ours))))

    def one_round():
        for side, function in next(order):
            started = time.perf_counter()
            function()
            times[side].append(time.perf_counter() - started)

    one_round()
    rounds = max(2, min(MOST_ROUNDS, int(seconds / (times[0][0] + times[1][0]))))
    benchmark.pedantic(one_round, rounds=rounds)
    calls = getattr(row, "calls", 1)
    benchmark.extra_info.update(
        package=package, row=row.name, against=row.against, goal=row.goal, rounds=rounds,
        microseconds_goal=getattr(row, "microseconds", None),
        ratio=statistics.median(theirs / mine for mine, theirs in zip(*times, strict=True)),
        ours_seconds=statistics.median(times[0]) / calls, peer_seconds=statistics.median(times[1]) / calls,
    )  # fmt: skip
