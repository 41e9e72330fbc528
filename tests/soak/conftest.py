"""One warm process and one set of data for all of the machinery's tests."""

import pytest

from tests.soak.harness.failing_files import FailingFiles
from tests.soak.harness.processes import Warm
from tests.soak.harness.verbs import available


@pytest.fixture(scope="session")
def harness(tmp_path_factory):
    """Commands that can be killed and whose files can fail."""
    top = tmp_path_factory.mktemp("soak")
    with Warm(top / "warm") as warm:
        if warm.library is None:
            pytest.skip("no C compiler: faults.c cannot be built")
        yield FailingFiles(top, warm, available())
