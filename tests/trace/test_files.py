"""Saved traces read back: the same figures, the old schema, and damage that is named."""

import copy
import json
import random
from dataclasses import fields

import pytest
import torch

from memfast.foundation.errors import InputError
from memfast.reports import render_trace
from memfast.results.trace import TraceFigures, read_trace_figures
from memfast.trace import TraceResult, load_trace
from tests.reports.trace_sample import make_trace


def result(seed=0, **options):
    figures = read_trace_figures(make_trace(**options))
    parts = {field.name: getattr(figures, field.name) for field in fields(TraceFigures)}
    samples = torch.randn(15, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return TraceResult(**parts, samples=samples, states=samples[None].repeat(11, 1, 1, 1, 1))


def test_what_is_saved_is_what_is_read(tmp_path):
    made = result()
    read = load_trace(made.save(tmp_path, page=True, states=True))
    assert read.to_dict() == made.to_dict() == json.loads((tmp_path / "trace.json").read_text())
    assert load_trace(tmp_path / "trace.json") == read
    assert read.conditions[0].loss.guided == tuple(make_trace()["conditions"][0]["loss"]["guided"])


def test_a_result_shows_itself_in_a_line():
    text = repr(result())
    assert text == "<TraceResult of a made-up run: 5 conditions, 3 seeds, 11 states, ddim>"
    assert len(repr(result().conditions[0])) < 300


def test_keys_still_work_and_warn():
    entry = result().conditions[0]
    with pytest.warns(DeprecationWarning, match=r"ConditionTrace\['loss'\] is deprecated"):
        assert entry["loss"]["guided"] == list(entry.loss.guided)
    with pytest.raises(KeyError):
        entry["nothing"]
    with pytest.warns(DeprecationWarning, match=r"use TraceResult\.to_dict"):
        assert result().content == result().to_dict()


def test_branches_that_an_earlier_version_drew_one_state_early_get_their_place():
    old = make_trace()
    whole = old["conditions"][0]["loss"]["conditional"]
    old["conditions"][0]["loss"]["conditional"] = whole[1:]
    assert read_trace_figures(old).conditions[0].loss.conditional == (None, *whole[1:])


def test_a_new_trace_leaves_nothing_of_the_old_one(tmp_path):
    result().save(tmp_path, page=True, states=True)
    (tmp_path / "notes.txt").write_text("mine")
    result(memorized=(True, False)).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"trace.json", "trace.csv", "notes.txt"}
    assert len(load_trace(tmp_path).conditions) == 2


@pytest.mark.parametrize("moved", range(4))
def test_a_kill_between_the_renames_leaves_one_trace(tmp_path, monkeypatch, moved):
    """Whatever has been moved: who reads the folder finds the new trace whole."""
    import memfast.runtime.files as files

    result().save(tmp_path, page=True, states=True)
    replace, calls = files.os.replace, []

    class Killed(BaseException):
        pass

    def killed(source, target):
        calls.append(target)
        if len(calls) > moved:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(Killed):
        result(memorized=(True, False)).save(tmp_path, page=True, states=True)
    monkeypatch.undo()
    read = load_trace(tmp_path)
    assert len(read.conditions) == 2
    assert "2 conditions, 3 seeds each" in (tmp_path / "trace.html").read_text()
    assert len((tmp_path / "trace.csv").read_text().splitlines()) == 1 + 2 * 3


DAMAGE = [
    (lambda t: t.update(kind="audit"), r"expected the content of a trace\.json"),
    (lambda t: t.update(conditions=[]), "expected at least one condition"),
    (lambda t: t.update(conditions={}), r"conditions: expected a list"),
    (lambda t: t["conditions"][1].update(d1="3"), r"conditions\[1\]\.d1: expected a number, received '3'"),
    (lambda t: t["conditions"][1].pop("name"), r"conditions\[1\]\.name: expected a value, received no such field"),
    (lambda t: t["conditions"][0]["loss"]["guided"].pop(), r"conditions\[0\]\.loss\.guided: expected 10 values"),
    (
        lambda t: t["conditions"][2]["w_target"]["mean"].append(1.0),
        r"w_target\.mean: expected 11 values, .*received 12",
    ),
    (lambda t: t["theory"]["schedule"]["w_initial"].pop(), r"theory\.schedule\.w_initial: expected 11 values"),
    (lambda t: t["detection"]["wen"]["roc"]["tpr"].pop(), r"detection\.\w+\.roc: expected 4 values"),
    (lambda t: t["guidance_sweep"][1]["conditions"].pop(), r"guidance_sweep\[1\]\.conditions: expected 5"),
    (lambda t: t["sampler"].update(seeds="all"), r"sampler"),
    (lambda t: t.update(surprise=1), "surprise"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=range(len(DAMAGE)))
def test_damage_is_named(tmp_path, damage, words):
    content = make_trace()
    damage(content)
    (tmp_path / "trace.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words) as found:
        load_trace(tmp_path)
    assert "trace.json" in str(found.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"kind": "trace", "x": NaN}', "[" * 100_000, "\xff"])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "trace.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="expected the"):
        load_trace(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"trace\.json: expected the trace\.json of a trace"):
        load_trace(tmp_path)
    with pytest.raises(InputError, match=r"expected the trace\.json of a trace"):
        load_trace(tmp_path / "nowhere")


def places(value, path=()):
    """Every place in plain values, as the keys that lead there."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


WRONG = (None, True, -1, 2**70, 1e300, "", "text", [], [[]], {}, {"a": 1}, [None], float("1e308") * 10)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_traces_are_refused_or_drawn(seed):
    """Never a raw error: each mutation is an InputError, or a page."""
    generator, whole = random.Random(seed), make_trace((True, False), seeds=2)
    every = list(places(whole))[1:]
    for _ in range(40):
        mutated = copy.deepcopy(whole)
        *way, last = generator.choice(every)
        parent = mutated
        for key in way:
            parent = parent[key]
        if generator.random() < 0.3:
            del parent[last]
        else:
            parent[last] = generator.choice(WRONG)
        try:
            page = render_trace(mutated)
        except InputError:
            continue
        assert "<html" in page
