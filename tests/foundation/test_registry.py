"""One registry for every kind: names, aliases, spellings, builders, and what a wrong entry says."""

import pytest

from memfast import criteria, detectors, features, models, objective, sampling, schedules, timesteps
from memfast.foundation.errors import InputError
from memfast.foundation.registry import Registry

REGISTRIES = {
    "criteria": criteria.CRITERIA, "detectors": detectors.DETECTORS, "densities": timesteps.DENSITIES,
    "schedules": schedules.SCHEDULES, "loss_weights": objective.WEIGHTS, "guidance": sampling.GUIDANCES,
    "features": features.FAMILIES, "networks": models.KINDS, "samplers": sampling.SAMPLERS,
}  # fmt: skip


class Shape:
    name = "shape"


class Square(Shape):
    name, aliases = "square", ("quad", "box")

    def __init__(self, side=1):
        self.side = side


class Group(Shape):
    name = "group"

    def __init__(self, members):
        self.members = members

    @classmethod
    def from_config(cls, arguments, build):
        return cls([build(one) for one in arguments["members"]])


def shapes(**options):
    return Registry("shape", [Square, Group], base=Shape, **options)


@pytest.mark.parametrize("name", REGISTRIES)
def test_every_kind_is_a_registry_that_other_packages_can_add_to(name):
    registry = REGISTRIES[name]
    assert isinstance(registry, Registry)
    assert registry.group == f"memfast.{name}"
    known = list(registry)
    assert [registry.find(one) for one in known] == list(registry.values())
    assert all(registry.find(one.upper()) is registry[one] for one in known)


@pytest.mark.parametrize("name", REGISTRIES)
def test_a_wrong_spelling_is_answered_with_the_nearest_name(name):
    registry = REGISTRIES[name]
    right = next(iter(registry))
    with pytest.raises(InputError) as error:
        registry.find(right[:-1] + "_")
    assert str(error.value).startswith(f"{registry.what}: expected one of ")
    assert all(one in str(error.value) for one in registry)
    assert str(error.value).endswith(f"Did you mean '{right}'?")


@pytest.mark.parametrize("wrong", [None, 3, ["square"], "", "zzzz"])
def test_what_is_no_name_is_refused_without_a_suggestion(wrong):
    with pytest.raises(InputError) as error:
        shapes().find(wrong, what="--shape", beside="a file")
    text = f"--shape: expected one of square (quad, box), group, received {wrong!r}. It may also be a file."
    assert str(error.value) == text


def test_entries_inside_entries_are_built_by_the_registry_itself():
    made = shapes().build(
        {"name": "group", "members": ["box", {"name": "square", "side": 3}, {"name": "group", "members": []}]}
    )
    assert [type(one) for one in made.members] == [Square, Square, Group]
    assert [one.side for one in made.members[:2]] == [1, 3]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"name": "square", "edge": 3}, r"shape square: expected its own arguments \(side\), received .*'edge'"),
        ({"name": "group"}, r"shape group: expected its own arguments \(members\), received 'members'"),
        ({"name": "group", "members": ["sqare"]}, "shape: expected .* received 'sqare'. Did you mean 'square'"),
        ({"side": 3}, "shape: expected one of .* received None"),
        (7, "shape: expected a name, a dictionary or an object, received int"),
    ],
)
def test_what_cannot_be_built_says_why(config, text):
    with pytest.raises(InputError, match=text):
        shapes().build(config, beside="an object")


def test_an_entry_can_be_registered_for_a_process():
    registry = shapes()

    @registry.register
    class Circle(Shape):
        name = "circle"

    assert registry["circle"] is Circle
    assert list(registry) == ["square", "group", "circle"]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (type("Other", (Shape,), {"name": "box"}), "a name that is not taken, received 'box'"),
        (
            type("Other", (Shape,), {"name": "other", "aliases": ("group",)}),
            "not taken, received 'group'",
        ),
        (type("Other", (Shape,), {"name": 3}), "a name that is a text, received 3"),
        (type("Other", (), {"name": "other"}), "a subclass or an instance of .*Shape"),
    ],
)
def test_an_entry_that_cannot_be_added_is_refused_and_leaves_the_registry_as_it_was(entry, text):
    registry = shapes()
    with pytest.raises(InputError, match=text):
        registry.register(entry)
    assert list(registry) == ["square", "group"]
    assert registry.find("box") is Square


class Point:
    """An entry point as importlib.metadata gives it."""

    dist = None

    def __init__(self, name, load):
        self.name, self.value, self.load = name, f"somewhere:{name}", load


def test_entry_points_are_loaded_when_a_name_is_unknown_or_all_are_listed(monkeypatch):
    loaded = []
    points = [Point("disc", lambda: loaded.append("disc") or type("Disc", (Shape,), {"name": "disc"}))]
    monkeypatch.setattr("memfast.foundation.registry.metadata.entry_points", lambda group: points)
    registry = shapes(group="memfast.shapes")
    assert registry.find("quad") is Square
    assert not loaded
    assert list(registry) == ["square", "group", "disc"]
    assert registry.find("DISC").name == "disc"
    assert loaded == ["disc"]


def test_a_package_that_cannot_be_loaded_is_named_and_built_in_entries_stay_usable(monkeypatch):
    def fail():
        raise ImportError("no module named 'round'")

    points = [Point("disc", fail)]
    monkeypatch.setattr("memfast.foundation.registry.metadata.entry_points", lambda group: points)
    registry = shapes(group="memfast.shapes")
    for look in (lambda: registry.find("disc"), lambda: list(registry), lambda: "disc" in registry):
        with pytest.raises(
            InputError, match=r"entry point 'disc' of 'memfast.shapes': .*somewhere:disc.*no module named"
        ):
            look()
    assert registry.find("square") is Square
