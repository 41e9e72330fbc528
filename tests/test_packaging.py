"""The source archive holds what a build needs, and the wheel builds from it in isolation, without torch."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(2400)
def test_wheel_builds_from_the_source_archive(tmp_path):
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (archive,) = tmp_path.glob("*.tar.gz")
    (wheel,) = tmp_path.glob("*.whl")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"csrc/module.cpp", "csrc/cpu/parallel.h", "setup.py", "LICENSE"} <= names
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "memfast/data/demo/fashion_mnist_2000.png" in names
    assert "memfast/data/demo/LICENSE" in names
    assert any(name.startswith("memfast/_C.") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    (needs,) = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("requires = ")]
    assert "pybind11" in needs
    assert "torch" not in needs
