from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shardgraph.activations import staging
from shardgraph.activations.backbone import Precomputed
from shardgraph.activations.blob import open_blob, write_blob
from shardgraph.activations.staging import Staged, erase_staging, stage
from shardgraph.activations.torch_module import TorchModule
from shardgraph.data.arrays import ArrayDataset
from shardgraph.data.folder import FolderDataset
from shardgraph.data.sample import Sample
from shardgraph.errors import BadFileError, UnknownIdError
from shardgraph.identity import SampleId

Placed = list[tuple[Sample, int]]


def placed(dataset: FolderDataset | ArrayDataset) -> Placed:
    """Three shards, in an order that is not that of the dataset."""
    return [(s, n % 3) for n, s in reversed(list(enumerate(dataset.samples)))]


def content(staged: Staged) -> dict[int, list[tuple[str, bytes]]]:
    with staged:
        return {
            shard: [
                (sample.id, row.tobytes())
                for sample, row in zip(staged.samples(shard), staged.rows(shard), strict=True)
            ]
            for shard in staged.shards
        }


def cut_short(folder: FolderDataset, index: int) -> None:
    path = folder.root / folder.samples[index].id
    path.write_bytes(path.read_bytes()[:200])


def test_rows_by_shard_in_the_order_asked_for(
    folder: FolderDataset, tiny: TorchModule, tmp_path: Path
) -> None:
    calls: list[tuple[int, int, int]] = []
    wanted = placed(folder)
    with stage(
        wanted, folder, tiny, tmp_path / "x", progress=lambda *call: calls.append(call)
    ) as staged:
        assert staged.shards == (0, 1, 2)
        assert (staged.encoded, staged.reused, staged.skipped) == (11, 0, ())
        for shard in staged.shards:
            expected = tuple(sample for sample, place in wanted if place == shard)
            assert staged.samples(shard) == expected
            count = len(expected)
            write_blob(tmp_path / str(shard), staged.rows(shard), count, tiny.tokens, tiny.width)
            blob = open_blob(tmp_path / str(shard))
            assert np.array_equal(blob, np.stack([staged.row(s.id) for s in expected]))
        assert staged.samples(9) == ()
        assert list(staged.rows(9)) == []
    assert calls == [(done, 11, 0) for done in range(12)]


def test_the_second_time_everything_is_reused(
    folder: FolderDataset,
    tiny: TorchModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = content(stage(placed(folder), folder, tiny, tmp_path / "x"))
    monkeypatch.delattr(TorchModule, "encode")
    calls: list[tuple[int, int, int]] = []
    again = stage(
        placed(folder), folder, tiny, tmp_path / "x", progress=lambda *call: calls.append(call)
    )
    assert (again.encoded, again.reused) == (0, 11)
    assert content(again) == first
    assert calls == [(11, 11, 11)]


def test_a_changed_file_is_encoded_anew(
    folder: FolderDataset, tiny: TorchModule, tmp_path: Path
) -> None:
    first = content(stage(placed(folder), folder, tiny, tmp_path / "x"))
    paths = [folder.root / folder.samples[i].id for i in (0, 1)]
    paths[0].write_bytes(paths[1].read_bytes())
    again = stage(placed(folder), folder, tiny, tmp_path / "x")
    assert (again.encoded, again.reused) == (1, 10)
    second = content(again)
    assert second != first
    assert second == content(stage(placed(folder), folder, tiny, tmp_path / "fresh"))


def test_another_backbone_reuses_nothing(
    folder: FolderDataset, make_tiny: Callable[..., TorchModule], tmp_path: Path
) -> None:
    stage(placed(folder), folder, make_tiny(), tmp_path / "x").close()
    for change in ({"mean": 0.0}, {"layer": "3"}):
        with stage(placed(folder), folder, make_tiny(**change), tmp_path / "x") as staged:
            assert staged.reused == 0


def test_bad_file_skipped_and_reported(
    folder: FolderDataset, tiny: TorchModule, tmp_path: Path
) -> None:
    cut_short(folder, 4)
    with stage(placed(folder), folder, tiny, tmp_path / "x", on_bad_file="skip") as staged:
        assert [skipped.sample for skipped in staged.skipped] == [folder.samples[4]]
        assert folder.samples[4].id in staged.skipped[0].reason
        kept = [sample for shard in staged.shards for sample in staged.samples(shard)]
        assert len(kept) == staged.encoded == 10
        assert folder.samples[4] not in kept


def test_bad_file_stops_and_what_is_done_stays(
    folder: FolderDataset, tiny: TorchModule, tmp_path: Path
) -> None:
    original = (folder.root / folder.samples[4].id).read_bytes()
    cut_short(folder, 4)
    wanted = [(sample, 0) for sample in folder.samples]
    with pytest.raises(BadFileError, match=folder.samples[4].id):
        stage(wanted, folder, tiny, tmp_path / "x")
    (folder.root / folder.samples[4].id).write_bytes(original)
    with stage(wanted, folder, tiny, tmp_path / "x") as staged:
        assert staged.reused == 4


def test_bad_header_stops_before_anything_is_encoded(
    folder: FolderDataset, tiny: TorchModule, tmp_path: Path
) -> None:
    (folder.root / folder.samples[10].id).write_bytes(b"not an image")
    calls: list[tuple[int, int, int]] = []
    with pytest.raises(BadFileError, match="not an image"):
        stage(
            [(sample, 0) for sample in folder.samples],
            folder,
            tiny,
            tmp_path / "x",
            progress=lambda *call: calls.append(call),
        )
    assert calls == []


def test_ctrl_c_leaves_a_staging_that_resumes(
    folder: FolderDataset, tiny: TorchModule, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int, reused: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(placed(folder), folder, tiny, tmp_path / "x", progress=interrupt)
    staged = stage(placed(folder), folder, tiny, tmp_path / "x")
    assert staged.reused == 6
    fresh = stage(placed(folder), folder, tiny, tmp_path / "fresh")
    assert content(staged) == content(fresh)


def test_work_is_synced_as_it_goes(
    folder: FolderDataset,
    tiny: TorchModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(staging, "SYNC_SECONDS", 0.0)
    lines = []

    def count(done: int, total: int, reused: int) -> None:
        lines.append((tmp_path / "x" / "journal.jsonl").read_bytes().count(b"\n") - 1)

    stage(placed(folder), folder, tiny, tmp_path / "x", progress=count).close()
    assert lines == [0, *range(11)]


def test_unknown_sample(folder: FolderDataset, tiny: TorchModule, tmp_path: Path) -> None:
    with pytest.raises(UnknownIdError, match="'nobody'"):
        stage([(Sample(SampleId("nobody"), "a"), 0)], folder, tiny, tmp_path / "x")


def test_nothing_wanted(folder: FolderDataset, tiny: TorchModule, tmp_path: Path) -> None:
    with stage([], folder, tiny, tmp_path / "x") as staged:
        assert staged.shards == ()


def test_erase_overwrites_what_was_there(
    folder: FolderDataset, tiny: TorchModule, tmp_path: Path
) -> None:
    stage(placed(folder), folder, tiny, tmp_path / "x").close()
    with (tmp_path / "x" / "rows.bin").open("rb") as still_open:
        assert any(still_open.read())
        erase_staging(tmp_path / "x")
        still_open.seek(0)
        assert not any(still_open.read())
    assert not (tmp_path / "x").exists()
    erase_staging(tmp_path / "x")


COUNT = 1200
SLOW_JOB = f"""
import sys, time
from pathlib import Path
import numpy as np
from shardgraph.activations import staging
from shardgraph.activations.backbone import Precomputed
from shardgraph.data.arrays import ArrayDataset

class Slow(Precomputed):
    def encode(self, batch):
        time.sleep(0.02)
        return super().encode(batch)

staging.SYNC_SECONDS = 0.02
data = ArrayDataset(np.random.default_rng(0).standard_normal(({COUNT}, 2, 3)), ["a"] * {COUNT})
backbone = Slow(2, 3)
wanted = [(sample, 0) for sample in data.samples]
staging.stage(wanted, data, backbone, Path(sys.argv[1]), batch_size=16).close()
print("done", flush=True)
"""


def claimed_lines(directory: Path) -> int:
    journal = directory / "journal.jsonl"
    try:
        return max(0, journal.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:  # not there yet, or about to be replaced
        return 0


def test_killed_at_any_instant_it_resumes_to_the_same_rows(tmp_path: Path) -> None:
    data = ArrayDataset(np.random.default_rng(0).standard_normal((COUNT, 2, 3)), ["a"] * COUNT)
    wanted = [(sample, 0) for sample in data.samples]
    claimed = 0
    for pause in (0.0, 0.031):
        job = subprocess.Popen(
            [sys.executable, "-c", SLOW_JOB, str(tmp_path / "x")], stdout=subprocess.PIPE
        )
        with job:
            while claimed_lines(tmp_path / "x") <= claimed and job.poll() is None:
                time.sleep(0.005)
            time.sleep(pause)
            os.kill(job.pid, signal.SIGKILL)
            assert job.stdout is not None
            assert job.stdout.read() == b""
        claimed = claimed_lines(tmp_path / "x")
    assert 0 < claimed < COUNT
    staged = stage(wanted, data, Precomputed(2, 3), tmp_path / "x", batch_size=16)
    assert staged.reused == claimed
    fresh = stage(wanted, data, Precomputed(2, 3), tmp_path / "fresh", batch_size=16)
    assert content(staged) == content(fresh)
