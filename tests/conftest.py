"""What every test may count on: the same examples, random numbers and threads whatever ran before, a cache of its own.

A red test is red for everybody, alone or among others, on a slow machine too.
"""

import itertools
import os
import random
import socket

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("repeatable")
THREADS = torch.get_num_threads()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Numbers drawn without a seed of their own are the same in every order of the tests, in fixtures too."""
    torch.default_generator.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - other packages draw from it
    random.seed(0)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    if torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What was left in the user's caches is not taken: features of an earlier version, kernels of another processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMFAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture(scope="session")
def free_port():
    """A function that finds a port for a process group.

    It is below the range from which the system hands out ports by itself: between the look and the group's start no
    other program's connection can be given it.
    """
    ports = itertools.cycle(range(20_000, 30_000))
    ports = itertools.islice(ports, 50 * os.getpid() % 10_000, None)

    def find():
        for port in ports:
            with socket.socket() as probe:
                try:
                    probe.bind(("", port))
                except OSError:
                    continue
                return port
        raise AssertionError("unreachable: the ports repeat for ever")

    return find
