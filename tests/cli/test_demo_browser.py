"""The demo page in a real browser: it fits a phone and a desk, and asks nobody for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(BROWSER is None, reason="no chromium; `make check-long` installs it where it may"),
]

WRAPPER = """<!doctype html><iframe id="page" src="index.html" style="width:{width}px;height:900px;border:0"></iframe>
<pre id="measured"></pre>
<script>
document.getElementById("page").onload = function () {{
  const view = this.contentWindow, root = view.document.documentElement;
  const loaded = [...view.document.images].every(image => image.complete && image.naturalWidth > 0);
  const asked = view.performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:"));
  document.getElementById("measured").textContent =
    `wide=${{root.scrollWidth}} loaded=${{loaded}} asked=${{asked.length}}`;
}};
</script>"""


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_the_page_fits(unixcxr, engine, tmp_path: Path, width: int) -> None:
    assert unixcxr("demo").code == 0
    wrapper = tmp_path / "demo" / "wrapper.html"
    wrapper.write_text(WRAPPER.format(width=width))
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=5000",
        "--dump-dom",
        wrapper.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    measured = re.search(r"wide=(\d+) loaded=(\w+) asked=(\d+)", shown)
    assert measured, shown[-500:]
    assert int(measured[1]) <= width
    assert (measured[2], measured[3]) == ("true", "0")
