"""In a pipe, progress is plain lines on stderr; switched off, it is silent."""

from memfast.foundation import progress
from memfast.foundation.progress import Progress


def test_plain_lines_in_a_pipe(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("reading", 4, "images") as bar:
        bar.advance(1)
        bar.advance(3, note="fine")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("reading: 1/4 images, ")
    assert lines[0].endswith("s left")
    assert lines[-1].startswith("reading: 4/4 images")
    assert lines[-1].endswith("fine")
    assert "\x1b" not in "".join(lines)


def test_silence(capsys):
    with Progress("reading", 4, "images", show=False) as bar:
        bar.advance(4)
    assert capsys.readouterr().err == ""
