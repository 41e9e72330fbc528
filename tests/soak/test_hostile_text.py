"""Names from the data attack pages, tables, terminals and file names; nothing of them runs or steers anything."""

import base64
import hashlib
import json
import re
import shutil

import numpy as np
import pytest

from tests.soak.harness import hostile
from tests.soak.harness.processes import Warm

SCRIPT = re.compile(r"<script(?![^>]*application/json)[^>]*>(.*?)</script>", re.DOTALL)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """An audit of images with hostile names, and what the command printed."""
    top = tmp_path_factory.mktemp("hostile")
    images = np.random.default_rng(0).integers(0, 256, (len(hostile.TEXTS), 8, 8), dtype=np.uint8)
    data = hostile.archive(top / "data.zip", images)
    outside = hostile.archive(top / "outside.zip", images, hostile.PATHS)
    with Warm(top / "warm") as warm:
        refused = warm.run(["audit", str(outside), str(data), "--out", str(top / "refused")])
        assert refused.code == 1
        assert "expected a path inside the archive" in refused.text
        ended = warm.run(["audit", str(data), str(data), "--out", str(top / "inner" / "out"), "-k", "3"])
        broken = warm.run(["audit", str(top / "\x1b[2Jno.zip"), str(data), "--out", str(top / "none")])
        harmless = hostile.archive(top / "harmless.zip", images, [f"plain {number}" for number in range(len(images))])
        assert warm.run(["audit", str(harmless), str(harmless), "--out", str(top / "harmless"), "-k", "3"]).code == 0
    assert ended.code == 0, ended.text
    return top, ended, broken


def test_a_terminal_is_not_steered(audited):
    _, ended, broken = audited
    assert broken.code == 1
    # Progress on a terminal may move the cursor; in a pipe there is none.
    assert hostile.steers_a_terminal(ended.text + ended.printed + broken.text) == []


def test_a_spreadsheet_computes_nothing(audited):
    assert hostile.formulas((audited[0] / "inner" / "out" / "pairs.csv").read_text(encoding="utf-8")) == []


def test_files_stay_in_their_folder_and_have_plain_names(audited):
    top = audited[0]
    assert sorted(one.name for one in top.iterdir()) == [
        "data.zip",
        "harmless",
        "harmless.zip",
        "inner",
        "outside.zip",
        "warm",
    ]
    assert [one.name for one in (top / "inner").iterdir()] == ["out"]
    assert hostile.unsafe_file_names(top / "inner") == []
    json.loads((top / "inner" / "out" / "result.json").read_text(), parse_constant=pytest.fail)


def test_a_page_holds_no_script_but_ours(audited):
    top = audited[0]
    wanted = SCRIPT.findall((top / "harmless" / "report.html").read_text(encoding="utf-8"))
    assert SCRIPT.findall((top / "inner" / "out" / "report.html").read_text(encoding="utf-8")) == wanted


@pytest.mark.browser
def test_a_browser_under_a_strict_policy_has_nothing_to_complain_of(audited):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    top = audited[0]
    ours = SCRIPT.findall((top / "harmless" / "report.html").read_text(encoding="utf-8"))
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in ours)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"
    body = (top / "inner" / "out" / "report.html").read_bytes()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"], timeout=300_000
        )
        page = browser.new_page()
        page.set_default_timeout(300_000)
        problems, asked = [], []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        headers = {"Content-Security-Policy": policy, "Content-Type": "text/html; charset=utf-8"}
        page.route("**/*", lambda route: route.fulfill(body=body, headers=headers))
        page.goto("http://report.test/")
        page.wait_for_selector(".pair")
        title = page.title()
        browser.close()
    assert problems == []
    assert asked == ["http://report.test/"]
    assert title != "owned"
