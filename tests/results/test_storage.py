"""Result files: what is written is read back, what was altered is refused, and a failed write leaves nothing behind."""

import errno
import os
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from fishertail.errors import DiskError, StorageError
from fishertail.results import storage

RECORD = {"rule": "train", "parameters": {"rate": 0.05, "quote": "\"'<&>"}, "data": ["abc"]}
FRAME = pd.DataFrame(
    {
        "step": [0, 1, 2],
        "layer": ["fc1", 'a, "b"', "né"],
        "a_x": [1e-300, 0.1, -np.inf],
        "converged": [True, False, True],
    }
)
TENSORS = {
    "step00000001/conv1.weight": torch.randn(8, 3, 2, 2).to(memory_format=torch.channels_last),
    "half": torch.randn(5).bfloat16(),
    "steps": torch.tensor(7),
    "none": torch.empty(0, 3),
}
TABLES, READ = [".csv", ".parquet"], [".csv", ".parquet", ".safetensors"]


def write(path, large=False):
    noise = np.random.default_rng(0).normal(size=10_000 if large else 300)
    if path.suffix == ".safetensors":
        storage.write_tensors({"noise": torch.from_numpy(noise)}, path, RECORD)
    else:
        storage.write_table(pd.DataFrame({"noise": noise}), path, RECORD)


def read(path):
    return (storage.read_tensors if path.suffix == ".safetensors" else storage.read_table)(path)


def assert_equal(found, expected):
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    else:
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(params=READ)
def written(request, tmp_path):
    path = tmp_path / f"result{request.param}"
    write(path)
    return path


@pytest.mark.parametrize("suffix", TABLES)
def test_a_table_comes_back_bit_for_bit(suffix, tmp_path):
    storage.write_table(FRAME, tmp_path / f"t{suffix}", RECORD)
    pd.testing.assert_frame_equal(storage.read_table(tmp_path / f"t{suffix}"), FRAME)


@pytest.mark.parametrize("suffix", TABLES)
def test_a_table_without_rows_keeps_its_columns(suffix, tmp_path):
    storage.write_table(FRAME.iloc[:0], tmp_path / f"t{suffix}", RECORD)
    assert list(storage.read_table(tmp_path / f"t{suffix}")) == list(FRAME)


def test_parquet_keeps_narrow_types(tmp_path):
    frame = pd.DataFrame({"sample": np.arange(3, dtype=np.int32), "norm": np.array([1, 2, 1e-30], dtype=np.float32)})
    storage.write_table(frame, tmp_path / "t.parquet", RECORD)
    pd.testing.assert_frame_equal(storage.read_table(tmp_path / "t.parquet"), frame)


def test_tensors_come_back_bit_for_bit(tmp_path):
    storage.write_tensors(TENSORS, tmp_path / "t.safetensors", RECORD)
    found = storage.read_tensors(tmp_path / "t.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_no_tensors_come_back_as_none(tmp_path):
    storage.write_tensors({}, tmp_path / "t.safetensors", RECORD)
    assert storage.read_tensors(tmp_path / "t.safetensors") == {}


@pytest.mark.parametrize("suffix", READ)
def test_a_file_carries_its_provenance(suffix, tmp_path):
    path = tmp_path / f"result{suffix}"
    write(path)
    assert storage.read_provenance(path).items() >= RECORD.items()


@pytest.mark.parametrize("suffix", READ)
def test_the_same_input_gives_the_same_bytes(suffix, tmp_path):
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    write(first)
    write(second)
    assert first.read_bytes() == second.read_bytes()


def test_a_missing_file_is_named(written):
    written.unlink()
    for reader in (read, storage.read_provenance):
        with pytest.raises(StorageError, match=f"{written}: no such file"):
            reader(written)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ESTALE, "Stale file handle"),
        MemoryError("2 GiB"),
        Exception("mmap: Cannot allocate memory"),
    ],
)
def test_an_intact_file_that_cannot_be_read_is_not_to_be_deleted(written, error, monkeypatch):
    def fail(*args, **options):
        raise error

    for where in ("pathlib.Path.read_text", "pyarrow.parquet.ParquetFile", "safetensors.safe_open"):
        monkeypatch.setattr(where, fail)
    with pytest.raises(DiskError, match=f"{written}: cannot read: ") as caught:
        read(written)
    assert "delete" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused(written):
    content = written.read_bytes()
    for length in np.linspace(0, len(content) - 1, 40, dtype=int):
        written.write_bytes(content[:length])
        with pytest.raises(StorageError, match=f"{written}: not a file that fishertail wrote .*; delete it"):
            read(written)


def test_a_byte_flipped_in_the_body_is_refused(written):
    content = bytearray(written.read_bytes())
    content[len(content) // 3] ^= 1
    written.write_bytes(content)
    with pytest.raises(StorageError, match=f"{written}: not a file that fishertail wrote"):
        read(written)


def test_a_byte_flipped_anywhere_is_refused_or_changes_nothing(written):
    expected, content = read(written), written.read_bytes()
    refused = 0
    for position in np.linspace(0, len(content) - 1, 300, dtype=int):
        altered = bytearray(content)
        altered[position] ^= 1
        written.write_bytes(altered)
        try:
            assert_equal(read(written), expected)
        except StorageError:
            refused += 1
    assert refused > 200


def test_a_renamed_column_of_a_parquet_file_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    storage.write_table(FRAME[["step"]], path, {})
    head, _, footer = path.read_bytes().partition(b"\x18\x04step")
    assert footer
    path.write_bytes(head + b"\x18\x04stee" + footer)
    with pytest.raises(StorageError, match=str(path)):
        storage.read_table(path)


@pytest.mark.parametrize("content", [b"", b"garbage\n1,2\n", bytes(range(256)) * 20, b"# fishertail {}\na\n1\n"])
def test_another_programs_file_is_refused(written, content):
    written.write_bytes(content)
    with pytest.raises(StorageError, match=f"{written}: not a file that fishertail wrote"):
        read(written)


@pytest.mark.parametrize("suffix", TABLES)
def test_missing_columns_are_named(suffix, tmp_path):
    storage.write_table(FRAME, tmp_path / f"t{suffix}", RECORD)
    with pytest.raises(StorageError, match=r"columns \['rank'\] expected"):
        storage.read_table(tmp_path / f"t{suffix}", ["step", "rank"])


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)]
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("a full disk needs root to mount one")
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a full disk needs the permission to mount one")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("suffix", READ)
def test_a_full_disk_is_an_error_that_names_the_file_and_keeps_the_one_before(suffix, tiny_disk):
    path = tiny_disk / f"result{suffix}"
    write(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match=f"{path}: cannot write: .*No space left on device"):
        write(path, large=True)
    assert list(tiny_disk.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", READ)
def test_a_directory_that_cannot_be_made_is_an_error_that_names_the_file(suffix, tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / f"result{suffix}"
    with pytest.raises(StorageError, match=f"{path}: cannot write: "):
        write(path)


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), storage.atomic(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with storage.atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_writable_directory_is_made_and_left_empty(tmp_path):
    storage.ensure_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_that_is_not_writable_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        storage.ensure_writable(tmp_path / "file")


def test_names_of_layers_are_text_even_where_all_look_like_numbers(tmp_path):
    frame = pd.DataFrame({"step": [0, 0, 1], "layer": ["1.1", "1.10", "2"], "eigenvalue": [1.0, 2.0, 3.0]})
    storage.write_table(frame, tmp_path / "spectrum.csv", {})
    assert storage.read_table(tmp_path / "spectrum.csv")["layer"].tolist() == ["1.1", "1.10", "2"]


def test_names_that_pandas_takes_for_missing_are_names(tmp_path):
    names = ["", "nan", "null", "NA", "None", "fc1"]
    frame = pd.DataFrame({"dataset": "null", "model": "7", "layer": names, "eigenvalue": [1.0, np.nan, 2, 3, 4, 5]})
    storage.write_table(frame, tmp_path / "spectrum.csv", {})
    pd.testing.assert_frame_equal(storage.read_table(tmp_path / "spectrum.csv"), frame)


def test_columns_of_layers_keep_their_names_and_numbers(tmp_path):
    frame = pd.DataFrame({"step": [0, 1], "sample": [3, 4], "": [1.0, 2.0], "layer": [0.5, np.nan], "nan": [3.0, 4.0]})
    storage.write_table(frame, tmp_path / "outlier_samples.csv", {})
    pd.testing.assert_frame_equal(storage.read_table(tmp_path / "outlier_samples.csv"), frame)
