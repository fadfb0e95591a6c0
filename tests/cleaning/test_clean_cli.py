"""`unixcxr clean` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cleaning import trees
from unixcxr.cli.app import run
from unixcxr.cli.clean import _duration
from unixcxr.config.cleaning import read_cleaning_config
from unixcxr.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def call(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capfd.readouterr()
    code = run(["clean", *map(str, arguments), "--workers", "1"])
    out, err = capfd.readouterr()
    return code, out, err


def test_a_folder_is_cleaned_and_then_there_is_nothing_to_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = trees.mimic_jpg(tmp_path / "mimic")
    code, out, err = call(capfd, root, "--out", tmp_path / "out")
    assert code == 0
    assert "mimic-cxr-jpg" in out
    assert "lateral view" in out
    assert "kept" in out
    assert "cleaning_report.html" in err
    code, _, err = call(capfd, root, "--out", tmp_path / "out")
    assert code == 0
    assert "nothing to do" in err


def test_json_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(
        capfd, trees.mimic_jpg(tmp_path / "mimic"), "--out", tmp_path / "out", "--json", "--limit", 1
    )
    row = json.loads(out)
    assert code == 0
    assert (row["num_read"], row["num_kept"], row["reasons"]) == (2, 1, {"source: lateral view": 1})


def test_a_config_file_and_overrides(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = trees.table_folder(tmp_path / "source")
    path = trees.text(tmp_path / "run.toml", f'[source]\npath = "{root}"\n[output]\nsize_px = 100\n')
    code, _, _ = call(
        capfd, path, "--out", tmp_path / "out", "--set", "splits.test_share=0.9", "--set", "splits.salt=a b"
    )
    assert code == 0
    saved = json.loads((tmp_path / "out" / "cleaning.json").read_text())["config"]
    assert saved["output"]["size_px"] == 100
    assert (saved["splits"]["test_share"], saved["splits"]["salt"]) == (0.9, "a b")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none",), 1, "no such file or folder"),
        ((".", "--source", "nih-14"), 2, "source.kind"),
        ((".", "--set", "quality.min_sid_px=3"), 2, "did you mean 'min_side_px'"),
        ((".", "--set", "nonsense"), 2, "not of the form section.field=value"),
        ((".", "--set", "source.path.x=1"), 2, "is a value, not a section"),
        ((".", "--runner", "slurm"), 2, "unknown runner 'slurm'"),
        (("broken.toml",), 2, "not TOML"),
        (("gone.toml",), 2, "cannot be read"),
        (("typo.csv",), 1, "no column 'report'; the nearest is 'reprot'"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    trees.table_folder(tmp_path)
    trees.text(tmp_path / "broken.toml", "= 1")
    trees.text(tmp_path / "typo.csv", "name,reprot\na,Clear lungs.\n")
    got, _, err = call(capfd, *arguments, "--out", tmp_path / "out")
    assert got == code
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert message in line


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "cleaning").glob("*.toml")), ids=lambda path: path.name
)
def test_the_shipped_configs_are_valid(path: Path) -> None:
    config = read_cleaning_config(str(path))
    assert config.source.path
    assert path.read_text().startswith("# ")


def test_a_table_for_the_model_without_the_model_has_no_effect() -> None:
    with pytest.raises(ConfigError, match="has no effect"):
        read_cleaning_config(".", ["rewrite.llm.model=x"])


@pytest.mark.parametrize(("seconds", "text"), [(5.2, "5 s"), (61, "1 min"), (3 * 3600 + 125, "3 h 2 min")])
def test_time_left(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
