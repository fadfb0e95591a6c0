"""Shards: what is written comes back, by this reader and by plain tar; any record is one read away."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cleaning.trees import film
from unixcxr.cleaning.shard_writer import ShardWriter
from unixcxr.data.shards import ShardReader
from unixcxr.errors import RecordError
from unixcxr.records import Change, Record


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def records(number: int) -> list[Record]:
    """Return records of two splits; one has a name too long for a plain tar header, the last has no picture."""
    return [
        Record(
            id=f"s{n}_{'x' * 150}" if n == 1 else f"s{n}",
            image_path="" if n == number - 1 else f"{n}.png",
            findings=f"Finding {n}, naïve.",
            labels={"Edema": "positive"},
            changes=(Change("rule", (0, n), "a", "b"),),
            split="test" if n % 5 == 4 else "train",
        )
        for n in range(number)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with ShardWriter(tmp_path, shard_size=3) as writer:
        for n, record in enumerate(records(12)):
            writer.add(record, png(film(n % 4)) if record.image_path else b"")
    return tmp_path


def expected(split: str) -> list[Record]:
    return [record for record in records(12) if record.split == split]


@pytest.mark.parametrize("split", ["train", "test"])
def test_round_trip(folder: Path, split: str) -> None:
    reader = ShardReader(folder, split)
    samples = list(reader.samples())
    assert [sample.record for sample in samples] == expected(split)
    assert reader.ids() == [record.id for record in expected(split)]
    for sample in samples:
        n = int(sample.record.id[1:].partition("_")[0])
        if n == 11:
            assert sample.image is None
        else:
            assert sample.image is not None
            assert np.array_equal(sample.image, film(n % 4))


def test_resuming_anywhere_gives_the_rest(folder: Path) -> None:
    reader = ShardReader(folder)
    everything = [sample.record.id for sample in reader.samples()]
    for start in range(len(reader) + 1):
        assert [sample.record.id for sample in ShardReader(folder).samples(start)] == everything[start:]


def test_plain_tar_reads_them_and_the_index_points_at_the_bytes(folder: Path) -> None:
    for path in sorted(folder.glob("*.tar")):
        index = json.loads(path.with_suffix(".index.json").read_text())
        raw = path.read_bytes()
        assert index["bytes"] == len(raw)
        with tarfile.open(path) as tar:
            names = tar.getnames()
            for entry in index["records"]:
                for suffix in entry.keys() - {"id"}:
                    offset, size = entry[suffix]
                    member = tar.extractfile(f"{entry['id']}.{suffix}")
                    assert member is not None
                    assert raw[offset : offset + size] == member.read()
        assert names == [f"{e['id']}.{s}" for e in index["records"] for s in ("png", "json") if s in e]


def test_the_same_input_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    with ShardWriter(again, shard_size=3) as writer:
        for n, record in enumerate(records(12)):
            writer.add(record, png(film(n % 4)) if record.image_path else b"")
    for path in folder.glob("*.*"):
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_an_error_leaves_no_half_shard(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with ShardWriter(tmp_path, shard_size=3) as writer:
            writer.add(records(1)[0], b"")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_split_says_what_there_is(folder: Path) -> None:
    with pytest.raises(RecordError, match="no shards of split 'validate'; it has: test, train"):
        ShardReader(folder, "validate")


def test_a_cut_tar_is_refused(folder: Path) -> None:
    path = folder / "train-00001.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(RecordError, match="copy it again"):
        ShardReader(folder)


def test_an_index_without_its_tar_is_refused(folder: Path) -> None:
    (folder / "train-00000.tar").unlink()
    with pytest.raises(RecordError, match="copy both files together"):
        ShardReader(folder)


def test_a_number_out_of_range(folder: Path) -> None:
    with pytest.raises(IndexError):
        ShardReader(folder)[100]
