"""Run the commands that README.md shows and paste what they really print: `python docs/make_readme.py [NAME...]`.

Without names every block is run. `docs/demo.png` is made of the pictures on the page that `make demo` wrote.
"""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from unixcxr.phantom import sample_phantom

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SHOWN_PX, GAP_PX = 256, 6

COMMANDS = {
    "demo": "make demo",
    "test": "make test",
    "report": "unixcxr report phantom.png",
    "draw": 'unixcxr draw "Large right pleural effusion."',
}
TAIL_ONLY = {"test": 1}
"""Blocks of which only the last lines are shown."""


def run(name: str, scratch: Path) -> str:
    """Run one command and return the block that the README shows: the command and its output."""
    command = COMMANDS[name]
    folder = ROOT if command.startswith("make") else scratch
    shell = f'PATH="{Path(sys.executable).parent}:$PATH" {command} 2>&1'
    ran = subprocess.run(shell, shell=True, cwd=folder, capture_output=True, text=True, check=True)
    lines = [line.rstrip() for line in ran.stdout.replace(f"{folder}/", "").strip().splitlines()]
    lines = [line for line in lines if not line.startswith((".venv/", "make"))]
    if name in TAIL_ONLY:
        lines = ["...", *lines[-TAIL_ONLY[name] :]]
    return "\n".join(["```console", f"$ {command}", *lines, "```"])


def paste(text: str, name: str, block: str) -> str:
    """Put a block between its markers."""
    pattern = rf"(<!-- output: {name} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda match: f"{match[1]}{block}\n{match[2]}", text, flags=re.DOTALL)


def save_pictures(page: Path, target: Path) -> None:
    """Lay the pictures of the demo page out in one row."""
    encoded = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page.read_text(encoding="utf-8"))
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(data))).resize((SHOWN_PX, SHOWN_PX)) for data in encoded
    ]
    row = Image.new("L", (len(pictures) * (SHOWN_PX + GAP_PX) - GAP_PX, SHOWN_PX), 255)
    for index, picture in enumerate(pictures):
        row.paste(picture, (index * (SHOWN_PX + GAP_PX), 0))
    row.save(target, optimize=True)


def main(names: list[str]) -> None:
    """Refresh the named blocks, or all."""
    with tempfile.TemporaryDirectory() as scratch:
        Image.fromarray(sample_phantom(7, size_px=256).image).save(Path(scratch) / "phantom.png")
        for name in names or COMMANDS:
            block = run(name, Path(scratch))
            README.write_text(paste(README.read_text(encoding="utf-8"), name, block), encoding="utf-8")
            if name == "demo":
                save_pictures(ROOT / "demo" / "index.html", ROOT / "docs" / "demo.png")


if __name__ == "__main__":
    main(sys.argv[1:])
