"""A user's own package, built and installed, adds entries of every kind; Python and the command use them by name."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PROJECT = """
    [build-system]
    requires = ["setuptools"]
    build-backend = "setuptools.build_meta"

    [project]
    name = "memfast-tiny-plugin"
    version = "1.0"

    [tool.setuptools]
    py-modules = ["tiny_plugin"]

    [project.entry-points."memfast.criteria"]
    taxicab = "tiny_plugin:NearInSorted"
    [project.entry-points."memfast.detectors"]
    final_norm = "tiny_plugin:FinalNorm"
    [project.entry-points."memfast.densities"]
    ramp = "tiny_plugin:Ramp"
    triangle = "tiny_plugin:Triangle"
    [project.entry-points."memfast.loss_weights"]
    constant = "tiny_plugin:Constant"
    halved = "tiny_plugin:Halved"
    [project.entry-points."memfast.schedules"]
    two_levels = "tiny_plugin:two_levels"
    [project.entry-points."memfast.guidance"]
    fading = "tiny_plugin:Fading"
    [project.entry-points."memfast.networks"]
    scale = "tiny_plugin:Scale"
    [project.entry-points."memfast.features"]
    corner = "tiny_plugin:CORNER"
"""
MODULE = '''
    from dataclasses import dataclass
    from typing import ClassVar

    import numpy as np
    import torch

    from memfast.criteria import Criterion, Judgement
    from memfast.detectors import Detector
    from memfast.features import Family, Loaded, Preprocessing
    from memfast.objective import LossWeight
    from memfast.sampling.guidance import Rule
    from memfast.schedules import from_alphas_cumprod
    from memfast.timesteps import ContinuousDensity, DiscreteDensity


    class NearInSorted(Criterion):
        """The nearest training item lies within a share of the farthest one that is known."""

        name, aliases = "near_in_sorted", ("nis",)
        title, definition, source = "Near among the known", "d1 / dk < threshold", "a test"
        neighbours = 5

        def __init__(self, threshold=0.5):
            self.threshold, self.levels = threshold, (threshold,)

        @property
        def grid(self):
            return np.array([0.25, 0.5, 0.75])

        def judge(self, evidence):
            distances = np.sqrt(evidence.squared_distances.astype(np.float64))
            scores = distances[:, 0] / distances[:, -1]
            return Judgement(scores, self.flags(evidence, scores, self.threshold), evidence.indices[:, 0])


    class FinalNorm(Detector):
        """Norm of the finished sample."""

        name, source, needs_branches = "final_norm", "a test", False

        def step(self, step, *, difference=None, attention=None):
            self._last = step.state.flatten(1).norm(dim=1).double().cpu().numpy()

        def scores(self):
            return self._last

        def _reset(self):
            self._last = None


    @dataclass(frozen=True)
    class Ramp(DiscreteDensity):
        """p(t) proportional to t to a power."""

        name: ClassVar[str] = "ramp"
        power: float = 1.0

        def probabilities(self, grid):
            count = grid if isinstance(grid, int) else len(grid.log_snr)
            masses = np.arange(1, count + 1) ** self.power
            return masses / masses.sum()


    @dataclass(frozen=True)
    class Triangle(ContinuousDensity):
        """p(u) = 2u over the time."""

        name: ClassVar[str] = "triangle"
        variable: ClassVar[str] = "time"

        def _pdf(self, x):
            return 2 * np.asarray(x)

        def _mass(self, low, high):
            return high**2 - low**2


    @dataclass(frozen=True)
    class Constant(LossWeight):
        """A constant on x0."""

        name: ClassVar[str] = "constant"
        value: float = 3.0

        def scaled(self, alpha, sigma):
            return self.value * sigma**2


    @dataclass(frozen=True)
    class Halved(LossWeight):
        """Half of another weight."""

        name: ClassVar[str] = "halved"
        of: LossWeight

        @classmethod
        def from_config(cls, arguments, build):
            return cls(build(arguments["of"]))

        def scaled(self, alpha, sigma):
            return self.of.scaled(alpha, sigma) / 2

        def to_dict(self):
            return {"name": self.name, "of": self.of.to_dict()}


    def two_levels(first=0.9):
        return from_alphas_cumprod([first, 0.1])


    class Fading(Rule):
        """A scale that falls with the noise."""

        name = "fading"

        def __init__(self, scale):
            super().__init__(scale=scale)
            self.full = float(scale)

        def scale(self, level, gap):
            return torch.full((self._count,), self.full * level.sigma, dtype=torch.float64)


    class Scale(torch.nn.Module):
        """x times one number."""

        kind = "scale"

        def __init__(self, item_shape, start=0.5):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(float(start)))

        def forward(self, x, timesteps, labels=None):
            return self.factor * x


    class Corner(torch.nn.Module):
        def forward(self, images):
            return images[:, :, :2, :2].flatten(1)


    def load(model):
        return Loaded(Corner(), Corner(), Preprocessing())


    CORNER = Family("corner", load)
'''
SCRIPT = """
    import json, sys
    import numpy as np, torch
    import memfast
    from memfast import criteria, detectors, features, models, objective, sampling, schedules, timesteps

    found = {}
    assert list(criteria.CRITERIA)[-1] == "near_in_sorted"
    generated, training = np.load(sys.argv[1]), np.load(sys.argv[2])
    result = memfast.audit(generated, training, criteria=["nis", "nn_ratio"], controls=False)
    found["criterion"] = result.criterion("near_in_sorted")["generated"]["count"]

    watcher = detectors.detector("final_norm")
    watcher.begin(2)
    class Step: state, index, alpha, sigma, noise_hat = 2 * torch.ones(2, 1, 2, 2), 0, 0.5, 0.5, None
    watcher.step(Step)
    found["detector"] = watcher.scores().tolist()

    found["density"] = timesteps.density_from_dict({"name": "ramp", "power": 2}).probabilities(3).tolist()
    mixed = {"name": "mixture", "components": ["uniform", "ramp"], "shares": [1, 1]}
    found["mixture"] = timesteps.density_from_dict(mixed).probabilities(3).tolist()
    found["continuous"] = timesteps.density_from_dict("triangle").probabilities(2).tolist()

    made = memfast.DenoisingObjective({"name": "two_levels", "first": 0.8}, {"name": "ramp"}, loss_weight="constant")
    again = memfast.DenoisingObjective.from_dict(json.loads(json.dumps(made.to_dict())))
    assert torch.equal(made.table, again.table)
    weight = objective.weight_from_dict({"name": "importance", "base": {"name": "halved", "of": "constant"}})
    alpha, sigma = (torch.tensor([value], dtype=torch.float64) for value in (0.6, 0.8))
    on = weight.on_prediction(alpha, sigma, "sample", probabilities=torch.tensor([1.0], dtype=torch.float64))
    found["weight"] = on.tolist()

    rule = sampling.choose_guidance({"name": "fading", "scale": 4})
    rule.begin(1)
    found["guidance"] = rule.scale(sampling.Level(0, 5, 0.6, 0.8), torch.zeros(1)).tolist()
    model = models.build({"kind": "scale", "item_shape": [1, 2, 2], "start": 2})
    found["network"] = [model.memfast_config, float(model(torch.ones(1, 1, 2, 2), torch.zeros(1)).sum())]
    found["features"] = list(features.extract(generated[:3], "corner", cache=False).values.shape)
    print(json.dumps(found))
"""


SETTINGS = """
    [data]
    path = "{classes}"
    use_labels = true

    [model]
    kind = "mlp"
    width = 8
    blocks = 1

    [objective]
    timesteps = {{ name = "ramp", power = 2.0 }}
    loss_weight = {{ name = "constant", value = 2.0 }}

    [training]
    steps = 3
    batch_size = 4
    compile = false
    device = "cpu"

    [monitor]
    every = 3
    samples = 8
    sampling_steps = 3
    criterion = "nis"
    threshold = 0.75
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package, built and installed beside memfast, and what a process needs to see both."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "pyproject.toml").write_text(textwrap.dedent(PROJECT))
    (folder / "tiny_plugin.py").write_text(textwrap.dedent(MODULE))
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--target", str(target), str(folder)], capture_output=True, text=True, cwd=folder, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [str(target), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    generator = np.random.default_rng(0)
    training = generator.integers(0, 256, (60, 6, 6), dtype=np.uint8)
    generated = generator.integers(0, 256, (9, 6, 6), dtype=np.uint8)
    generated[:4] = training[10:14] ^ 1
    for name, images in (("generated", generated), ("training", training)):
        np.save(folder / f"{name}.npy", images)
    return folder / "generated.npy", folder / "training.npy"


def run(command, environment):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_python_finds_every_kind_by_name(installed, sets):
    found = json.loads(run(["-c", textwrap.dedent(SCRIPT), *map(str, sets)], installed))
    assert found["criterion"] == 4
    assert found["detector"] == [4.0, 4.0]
    np.testing.assert_allclose(found["density"], [1 / 14, 4 / 14, 9 / 14])
    np.testing.assert_allclose(found["mixture"], [1 / 6 + 1 / 12, 1 / 3, 1 / 6 + 1 / 4])
    np.testing.assert_allclose(found["continuous"], [0.25, 0.75])
    np.testing.assert_allclose(found["weight"], [1.5])
    np.testing.assert_allclose(found["guidance"], [3.2])
    assert found["network"] == [{"kind": "scale", "item_shape": [1, 2, 2], "start": 2}, 8.0]
    assert found["features"] == [3, 4]


COMMANDS = """
    import contextlib, io, json, sys
    from memfast.cli import main

    for arguments in json.loads(sys.argv[1]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def commands(environment, *each):
    """(exit code, stdout, stderr) of commands, one after the other in one process."""
    printed = run(["-c", textwrap.dedent(COMMANDS), json.dumps([list(map(str, one)) for one in each])], environment)
    return [json.loads(line) for line in printed.splitlines()]


def test_the_command_audits_trains_and_traces_by_name(installed, sets, tmp_path):
    classes, settings = tmp_path / "classes", tmp_path / "run.toml"
    for number, image in enumerate(np.load(sets[1])):
        (classes / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(classes / f"{number % 2}" / f"{number}.png")
    settings.write_text(textwrap.dedent(SETTINGS.format(classes=classes)))
    done = commands(
        installed,
        ["audit", *sets, "--out", tmp_path / "a", "--json", "--quiet", "--criteria", "near_in_sorted"],
        ["train", settings, "--out", tmp_path / "run", "--quiet"],
        ["trace", tmp_path / "run", "--steps", 3, "--seeds", 2, "--target", "final", "--detectors", "final_norm",
         "--out", tmp_path / "t", "--quiet", "--json"],
    )  # fmt: skip
    assert [code for code, _, _ in done] == [0, 0, 0], done
    audited = json.loads(done[0][1])["criteria"][0]
    assert (audited["name"], audited["generated"]["count"]) == ("near_in_sorted", 4)
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["objective"]["timesteps"] == {"name": "ramp", "power": 2.0}
    assert kept["objective"]["loss_weight"] == {"name": "constant", "value": 2.0}
    assert kept["training"]["hooks"][0]["criterion"] == {"name": "near_in_sorted", "threshold": 0.75}
    entry = json.loads((tmp_path / "t" / "trace.json").read_text())["conditions"][0]
    assert set(entry["detectors"]) == {"final_norm"}


def test_a_package_that_cannot_be_loaded_is_named_by_the_command(sets, tmp_path):
    info = tmp_path / "site" / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[memfast.criteria]\nlost = no_such_module:Lost\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}
    audit = ["audit", *sets, "--out", tmp_path / "a", "--quiet", "--criteria"]
    failed, fine = commands(environment, [*audit, "lost"], [*audit, "dcr"])
    assert failed[0] == 1
    assert "entry point 'lost' of 'memfast.criteria'" in failed[2]
    assert "Repair or uninstall the package broken." in failed[2]
    assert fine[0] == 0, fine
