"""The checkout is asked once a process, and never locked."""

import subprocess

from memfast.foundation import provenance


def test_git_is_asked_once_and_takes_no_lock(monkeypatch):
    asked, real = [], subprocess.run

    def noted(command, **options):
        asked.append((command, options["env"].get("GIT_OPTIONAL_LOCKS")))
        return real(command, **options)

    provenance._own_commit.cache_clear()
    monkeypatch.setattr(provenance.subprocess, "run", noted)
    found = provenance.commit()
    first = len(asked)
    assert all("--no-optional-locks" in command and locks == "0" for command, locks in asked)
    assert provenance.commit() == found
    assert len(asked) == first
