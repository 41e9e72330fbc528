"""The pages: every link and anchor leads somewhere, every command they show has the options it is given."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from memfast.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    pytest.param(page, link, id=f"{page.name}: {link}")
    for page in PAGES
    for link in sorted(set(re.findall(r"\]\((?!http)([^)\s]+)\)", page.read_text())))
]
COMMANDS = sorted(
    {
        (page.name, command)
        for page in PAGES
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), flags=re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if (command := line.partition(" #")[0].strip()).startswith(("memfast ", "torchrun "))
    }
)


def anchors(page):
    """GitHub's names of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_to_a_file_and_to_one_of_its_headings(page, link):
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


def test_there_are_commands_of_every_verb_that_reads_a_folder():
    shown = {command.split()[1] for _, command in COMMANDS if command.startswith("memfast ")}
    assert {"train", "sample", "audit", "trace"} <= shown


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_has_the_options_it_is_shown_with(page, command):
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = words[words.index("memfast") :]
    verb = typer.main.get_command(app).commands[words[1]]
    known = {name for parameter in verb.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert not [word for word in words[2:] if word.startswith("-") and word not in known]
