"""The whole road: every image accounted for, the same result however it was run, and nothing done twice."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cleaning import trees
from unixcxr.cleaning import pipeline
from unixcxr.cleaning.pipeline import CleaningResult, clean
from unixcxr.cleaning.runners import LocalRunner, RayRunner
from unixcxr.cleaning.splits import check_splits
from unixcxr.cleaning.work import ChunkTask
from unixcxr.config import from_mapping
from unixcxr.config.cleaning import CleaningConfig
from unixcxr.data.shards import ShardReader
from unixcxr.errors import InputError, OutputError
from unixcxr.records import Record, read_manifest

ONE = LocalRunner(1)


def config(path: Path, **sections: Any) -> CleaningConfig:
    source = {"path": str(path), **sections.pop("source", {})}
    return from_mapping(CleaningConfig, {"source": source, **sections})


def run(path: Path, out: Path, **sections: Any) -> CleaningResult:
    return clean(config(path, **sections), out, runner=ONE)


def manifest(out: Path) -> list[Record]:
    return list(read_manifest(out / "manifest.jsonl"))


def dropped(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("kind", trees.BUILDERS)
def test_every_layout_goes_all_the_way_and_every_image_is_accounted_for(kind: str, tmp_path: Path) -> None:
    root = trees.BUILDERS[kind](tmp_path / "source")
    settings: dict[str, Any] = {}
    if kind == "chexgenbench":
        settings = {"source": {"images": str(trees.mimic_jpg(tmp_path / "jpg"))}}
    result = run(root, tmp_path / "out", **settings)
    counts, records, rows = result.counts, manifest(tmp_path / "out"), dropped(tmp_path / "out")
    assert result.source == kind
    assert counts.num_kept == len(records) > 0
    assert counts.num_dropped == len(rows) == sum(counts.reasons.values())
    assert counts.num_read == counts.num_kept + counts.num_dropped
    assert len({record.id for record in records}) == len(records)
    assert check_splits(records) == []
    assert all(row["reason"] and row["stage"] for row in rows)
    for split, number in counts.splits.items():
        reader = ShardReader(tmp_path / "out" / "shards", split)
        assert [sample.record for sample in reader.samples()] == [r for r in records if r.split == split]
        assert len(reader) == number


def test_a_record_holds_the_clean_text_the_raw_text_and_the_labels(tmp_path: Path) -> None:
    run(trees.mimic_jpg(tmp_path / "mimic"), tmp_path / "out")
    record = next(r for r in manifest(tmp_path / "out") if r.id.startswith("s50414267"))
    assert record.id == "s50414267_02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"
    assert record.findings == "There is a small right pleural effusion. No pneumothorax is seen."
    assert record.impression == "Small right pleural effusion."
    assert record.raw_report == trees.REPORT
    assert record.labels == {"Pleural Effusion": "positive", "Pneumothorax": "negative"}
    assert (record.view, record.split, record.patient_id) == ("PA", "train", "p10000032")
    assert record.license.startswith("PhysioNet")
    for change in record.changes:
        assert trees.REPORT[slice(*change.span)] == change.before


def test_labels_of_the_source_where_there_is_no_text_or_where_wanted(tmp_path: Path) -> None:
    run(trees.chexpert(tmp_path / "chexpert"), tmp_path / "a")
    assert manifest(tmp_path / "a")[0].labels["Edema"] == "uncertain"
    run(trees.mimic_jpg(tmp_path / "mimic"), tmp_path / "b", output={"labels": "source"})
    assert manifest(tmp_path / "b")[0].labels["Edema"] == "uncertain"


BAD = {
    "missing report": lambda root, study, image: (root / f"{study}.txt").unlink(),
    "empty report": lambda root, study, image: trees.text(root / f"{study}.txt", "  \n"),
    "report is not text": lambda root, study, image: trees.text(root / f"{study}.txt", bytes(range(256))),
    "missing image": lambda root, study, image: image.unlink(),
    "unreadable image": lambda root, study, image: trees.text(image, image.read_bytes()[:400]),
    "blank": lambda root, study, image: Image.new("L", (200, 200), 7).save(image),
    "tiny": lambda root, study, image: Image.fromarray(trees.film(0)).resize((64, 64)).save(image),
    "inverted": lambda root, study, image: Image.fromarray(255 - trees.film(0)).save(image),
    "tagged frontal, does not look it": lambda root, study, image: Image.fromarray(
        np.rot90(trees.film(0))
    ).save(image),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_input_is_named_and_never_fatal(reason: str, tmp_path: Path) -> None:
    root = trees.mimic_jpg(tmp_path / "mimic")
    subject, study, image, *_ = trees.MIMIC[0]
    folder = trees.mimic_path(subject, study)
    BAD[reason](root, folder, root / folder / f"{image}.jpg")
    result = run(root, tmp_path / "out")
    rows = [row for row in dropped(tmp_path / "out") if row["reason"] != "lateral view"]
    assert [(row["reason"], Path(row["image_path"]).stem) for row in rows] == [(reason, image)]
    assert result.counts.num_kept == 3


def test_a_report_in_another_encoding_is_kept_with_a_note(tmp_path: Path) -> None:
    root = trees.mimic_jpg(tmp_path / "mimic")
    path = root / f"{trees.mimic_path(*trees.MIMIC[0][:2])}.txt"
    path.write_bytes(trees.REPORT.replace("with cough", "with thé").encode("latin-1"))
    result = run(root, tmp_path / "out")
    assert result.counts.notes == {"report decoded as Windows-1252": 1}


def test_a_study_without_images_is_counted(tmp_path: Path) -> None:
    run(trees.mimic_dicom(tmp_path / "mimic"), tmp_path / "out")
    assert [
        row["study_id"] for row in dropped(tmp_path / "out") if row["reason"] == "study without images"
    ] == ["s50578979"]


def test_an_inverted_picture_may_be_turned_back(tmp_path: Path) -> None:
    root = trees.table_folder(tmp_path / "source")
    Image.fromarray(255 - trees.film(0)).save(root / "images" / "0.png")
    run(root, tmp_path / "out", quality={"inverted": "mend"})
    (record,) = [r for r in manifest(tmp_path / "out") if r.id == "0"]
    assert [change.rule for change in record.changes][-1] == "inverted picture"
    (sample,) = [
        s for s in ShardReader(tmp_path / "out" / "shards", record.split).samples() if s.record.id == "0"
    ]
    assert np.array_equal(sample.image, trees.film(0))


def test_pictures_in_the_shards_keep_their_shape_and_bound(tmp_path: Path) -> None:
    root = tmp_path / "source"
    Image.fromarray(trees.film(0)).resize((300, 240)).save(trees.picture(root / "images" / "0.png"))
    trees.table(root / "data.csv", [{"image": "images/0.png", "report": "Clear lungs.", "view": "AP"}])
    run(root, tmp_path / "out", output={"size_px": 160})
    (sample,) = ShardReader(tmp_path / "out" / "shards", manifest(tmp_path / "out")[0].split).samples()
    assert sample.image is not None
    assert sample.image.shape == (160, 200)


def duplicate_source(root: Path) -> Path:
    """Five rows: 1 is 0 again (same patient), 2 is 0 again in the test split (another patient), 3 and 4 are others."""
    rows = []
    for number, (seed, patient, split) in enumerate(
        ((0, "a", "train"), (0, "a", "train"), (0, "b", "test"), (3, "c", "train"), (4, "d", "validate"))
    ):
        path = trees.picture(root / "images" / f"{number}.png", seed)
        if number:
            Image.fromarray(trees.film(seed)).resize((180 + 9 * number,) * 2).save(path)
        rows.append(
            {"image": f"images/{number}.png", "report": "Clear lungs.", "patient": patient, "split": split}
        )
        rows[-1] |= {"study_id": f"s{number}", "view": "PA"}
    trees.table(root / "data.csv", rows)
    return root


def test_of_duplicates_the_one_in_the_strictest_split_stays(tmp_path: Path) -> None:
    root = duplicate_source(tmp_path / "source")
    run(root, tmp_path / "out")
    assert {record.id for record in manifest(tmp_path / "out")} == {"s2_2", "s3_3", "s4_4"}
    rows = {row["study_id"]: row for row in dropped(tmp_path / "out")}
    assert {row["reason"] for row in rows.values()} == {"duplicate, another patient, across splits"}
    assert rows["s0"]["detail"].startswith("of s2_2 (another patient, train against test)")


def test_duplicates_may_be_marked_and_crossings_are_reported(tmp_path: Path) -> None:
    root = duplicate_source(tmp_path / "source")
    result = run(root, tmp_path / "out", duplicates={"action": "mark"})
    assert (result.counts.num_kept, result.counts.crossings) == (5, 2)
    result = run(root, tmp_path / "off", duplicates={"action": "off"})
    assert (result.counts.num_kept, result.counts.notes) == (5, {})


def test_a_patient_in_two_official_splits_stays_in_the_stricter(tmp_path: Path) -> None:
    root = tmp_path / "source"
    rows = [
        {
            "image": f"{n}.png",
            "report": "Clear lungs.",
            "patient": "a",
            "study_id": n,
            "split": split,
            "view": "PA",
        }
        for n, split in enumerate(("train", "test", ""))
    ]
    trees.table(root / "data.csv", rows)
    for n in range(3):
        trees.picture(root / f"{n}.png", n)
    run(root, tmp_path / "out")
    assert {record.id: record.split for record in manifest(tmp_path / "out")} == {"1": "test", "2": "test"}
    assert [row["reason"] for row in dropped(tmp_path / "out")] == ["patient in a stricter split"]


def many(root: Path, number: int, first: int = 0) -> Path:
    """A table of `number` text-only studies of half as many patients."""
    rows = [
        {
            "study_id": f"{n:05d}",
            "patient_id": f"p{n // 2}",
            "report": f"FINDINGS: Nodule of {n % 30 + 2} mm. No effusion.",
        }
        for n in range(first, first + number)
    ]
    trees.table(root / "data.csv", rows)
    return root


def test_splits_do_not_move_when_data_are_added(tmp_path: Path) -> None:
    splits = {"validate_share": 0.2, "test_share": 0.2}
    run(many(tmp_path / "few", 60, 40), tmp_path / "a", splits=splits)
    run(many(tmp_path / "more", 140), tmp_path / "b", splits=splits)
    few = {record.id: record.split for record in manifest(tmp_path / "a")}
    more = {record.id: record.split for record in manifest(tmp_path / "b")}
    assert len(set(few.values())) == 3
    assert few.items() <= more.items()


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    root = trees.mimic_jpg(tmp_path / "mimic")
    first = run(root, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    second = run(root, tmp_path / "out")
    assert (first.did_nothing, second.did_nothing) == (False, True)
    assert second.counts == first.counts
    assert before.keys() == set((tmp_path / "out").rglob("*"))
    assert {p: t for p, t in before.items() if p.is_file()} == {
        p: p.stat().st_mtime_ns for p in before if p.is_file()
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda root, out: trees.text(
            root / f"{trees.mimic_path(*trees.MIMIC[0][:2])}.txt", "FINDINGS: Clear lungs."
        ),
        lambda root, out: trees.picture(
            root / trees.mimic_path(*trees.MIMIC[0][:2], f"{trees.MIMIC[0][2]}.jpg"), 9
        ),
        lambda root, out: (out / "manifest.jsonl").write_text(""),
        lambda root, out: next((out / "shards").glob("*.tar")).unlink(),
        lambda root, out: (out / "cleaning.json").unlink(),
    ],
)
def test_whatever_changed_is_made_again(change: Callable[[Path, Path], object], tmp_path: Path) -> None:
    root, out = trees.mimic_jpg(tmp_path / "mimic"), tmp_path / "out"
    run(root, out)
    change(root, out)
    assert not run(root, out).did_nothing
    assert run(root, out).did_nothing
    again = run(root, tmp_path / "fresh")
    assert not again.did_nothing
    assert files(out) == files(tmp_path / "fresh")


def test_other_settings_are_another_run(tmp_path: Path) -> None:
    root, out = trees.mimic_jpg(tmp_path / "mimic"), tmp_path / "out"
    run(root, out)
    assert not run(root, out, quality={"min_side_px": 100}).did_nothing


class StopAfter:
    """A runner that is interrupted after some chunks."""

    num_workers = 1

    def __init__(self, number: int) -> None:
        self.left = number
        self.ran: list[str] = []

    def run(self, tasks: Iterable[ChunkTask], done: Callable[[ChunkTask], None]) -> None:
        def one(task: ChunkTask) -> None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.ran.append(Path(task.plan_path).stem)
            done(task)

        LocalRunner(1).run(tasks, one)


def test_an_interrupted_run_goes_on_and_repeats_no_finished_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "CHUNK_STUDIES", 8)
    root = many(tmp_path / "source", 50)
    with pytest.raises(KeyboardInterrupt):
        clean(config(root), tmp_path / "out", runner=StopAfter(3))
    assert not (tmp_path / "out" / "cleaning.json").exists()
    rest = StopAfter(100)
    result = clean(config(root), tmp_path / "out", runner=rest)
    assert result.num_chunks_resumed == 4  # the one that was stopped while it reported had its rows written
    assert rest.ran == ["000004", "000005", "000006"]
    run(root, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert not (tmp_path / "out" / "staging").exists()


def test_workers_in_other_processes_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "CHUNK_STUDIES", 2)
    root = trees.mimic_jpg(tmp_path / "mimic")
    run(root, tmp_path / "one")
    clean(config(root), tmp_path / "two", runner=LocalRunner(2))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_killed_process_is_resumed(tmp_path: Path) -> None:
    root, out = many(tmp_path / "source", 1200), tmp_path / "out"
    program = "from unixcxr.cli import main; main()"
    command = [sys.executable, "-c", program, "clean", str(root), "--out", str(out), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while (
        len(list((out / "staging").glob("*.rows"))) < 2 and time.monotonic() < end and process.poll() is None
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list((out / "staging").glob("*.rows")))
    result = run(root, out)
    assert result.num_chunks_resumed == finished >= 2
    run(root, tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")


def test_a_file_that_kills_its_reader_is_dropped_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = trees.table_folder(tmp_path / "source")
    deadly = tmp_path / "site" / "sitecustomize.py"
    trees.text(
        deadly,
        "import os, unixcxr.cleaning.work as work\n"
        "read = work.read_source\n"
        "work.read_source = lambda path: os._exit(9) if path.endswith('/2.png') else read(path)\n",
    )
    monkeypatch.setenv("PYTHONPATH", str(deadly.parent))
    result = clean(config(root), tmp_path / "out", runner=LocalRunner(2))
    assert [(row["study_id"], row["reason"]) for row in dropped(tmp_path / "out")] == [
        ("2", "crashed the reader")
    ]
    assert result.counts.num_kept == 3


def test_memory_does_not_grow_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner never sees more than the chunks in work, and a chunk never more than its studies."""
    monkeypatch.setattr(pipeline, "CHUNK_STUDIES", 4)
    alive: Counter[str] = Counter()
    plain = pipeline.read_source

    def counting(settings: Any) -> Any:
        detected, studies = plain(settings)

        def counted() -> Any:
            for study in studies:
                alive["read"] += 1
                alive["most"] = max(alive["most"], alive["read"] - 4 * len(list(staging.glob("*.plan"))))
                yield study

        return detected, counted()

    staging = tmp_path / "out" / "staging"
    monkeypatch.setattr(pipeline, "read_source", counting)
    run(many(tmp_path / "source", 64), tmp_path / "out")
    assert alive["read"] == 64
    assert alive["most"] <= 4


def test_limit_takes_the_first_studies(tmp_path: Path) -> None:
    result = clean(config(many(tmp_path / "source", 40)), tmp_path / "out", runner=ONE, limit=5)
    assert result.counts.num_read == 5


def test_progress_knows_the_total(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    clean(
        config(many(tmp_path / "source", 70)),
        tmp_path / "out",
        runner=ONE,
        progress=lambda *a: told.append(a),
    )
    cleaning = [entry[1:] for entry in told if entry[0] == "Cleaning"]
    assert cleaning == [(0, 70), (32, 70), (64, 70), (70, 70)]


def test_the_source_is_not_written_into(tmp_path: Path) -> None:
    root = trees.table_folder(tmp_path / "source")
    with pytest.raises(OutputError, match="is the source itself"):
        run(root, root)
    with pytest.raises(OutputError, match="lies in the folder that is read"):
        run(trees.dicom_folder(tmp_path / "dicom"), tmp_path / "dicom" / "clean")
    trees.table(tmp_path / "empty" / "data.csv", [], ["image", "report"])
    with pytest.raises(InputError, match="no study found"):
        run(tmp_path / "empty", tmp_path / "out")


def test_the_report_stands_alone_and_tells_the_counts(tmp_path: Path) -> None:
    root = duplicate_source(tmp_path / "source")
    Image.fromarray(255 - trees.film(3)).save(root / "images" / "3.png")
    run(root, tmp_path / "out")
    page = (tmp_path / "out" / "cleaning_report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert page.count("<article>") == 2
    for told in (
        "duplicate, another patient, across splits",
        "inverted",
        "No patient and no duplicate crosses",
        "taken: PA by ViewPosition",
    ):
        assert told in page
    assert page.count("data:image/jpeg") == 2 + 4 + 1  # samples, two pairs, one refused picture


def test_the_summary_holds_no_time_and_no_machine(tmp_path: Path) -> None:
    run(trees.table_folder(tmp_path / "source"), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "cleaning.json").read_text())
    assert summary.keys() == {"fingerprint", "is_complete", "source", "counts", "versions", "config", "files"}
    shutil.rmtree(tmp_path / "out")


@pytest.mark.ray
def test_a_ray_cluster_of_two_workers_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(pipeline, "CHUNK_STUDIES", 2)
    root = trees.mimic_jpg(tmp_path / "mimic")
    run(root, tmp_path / "local")
    clean(config(root), tmp_path / "ray", runner=RayRunner(2))
    assert files(tmp_path / "local") == files(tmp_path / "ray")
