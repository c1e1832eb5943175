"""Result files: written whole or not at all, read with their checksum verified.

Every file carries its provenance inside itself: a CSV in a first comment line, a Parquet
file in its schema, a safetensors file in its header, Markdown, LaTeX, SVG and PDF in a comment or metadata field.
"""

import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishertail.errors import DiskError, StorageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import torch

_KEY = "fishertail"
_NAMES = ("layer", "dataset", "model")  # columns of names that users choose
_OF_THE_SYSTEM = re.compile(r"allocate memory|\(os error \d+\)")  # in what safetensors raises
_ALTERED = "its checksum differs from the one it was written with"


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the directory of `path`, and rename it to `path` when the block succeeds.

    Raises:
        DiskError: the directory or the file cannot be written (disk full, no permission); nothing is left behind.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise DiskError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def ensure_writable(directory: str | os.PathLike[str]) -> None:
    """Raise `StorageError` unless files can be made in `directory`, which is created where it is missing."""
    with atomic(Path(directory) / ".writable") as probe:
        probe.write_bytes(b"probe")
    (Path(directory) / ".writable").unlink(missing_ok=True)


def write_table(frame: "pd.DataFrame", path: str | os.PathLike[str], provenance: Mapping[str, Any]) -> None:
    """Write `frame` as CSV or Parquet, which the suffix of `path` chooses."""
    suffix = Path(path).suffix
    if suffix == ".csv":
        write_with_header(frame.to_csv(index=False), path, provenance, "# ")
        return
    if suffix != ".parquet":
        raise ValueError(f"{path}: .csv or .parquet expected (fishertail.results.formats writes other kinds)")
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    record = {**provenance, "sha256": _table_checksum(table)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: json.dumps(record)})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def write_with_header(
    body: str, path: str | os.PathLike[str], provenance: Mapping[str, Any], start: str, end: str = ""
) -> None:
    """Write text below a line with its provenance and checksum, a comment between `start` and `end`."""
    header = {**provenance, "sha256": hashlib.sha256(body.encode()).hexdigest()}
    write_text(f"{start}{_KEY} {json.dumps(header)}{end}\n{body}", path)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write text that already carries its provenance."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_table(path: str | os.PathLike[str], columns: Iterable[str] = ()) -> "pd.DataFrame":
    """Read a CSV or Parquet file that `write_table` wrote.

    Raises:
        StorageError: it is missing, truncated, altered, or lacks one of `columns`.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    path = Path(path)
    with _reading(path):
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
            if json.loads(table.schema.metadata[_KEY.encode()])["sha256"] != _table_checksum(table):
                raise ValueError(_ALTERED)
            frame: pd.DataFrame = table.to_pandas()
        else:
            header, _, body = path.read_text(encoding="utf-8").partition("\n")
            if _parse_header(header)["sha256"] != hashlib.sha256(body.encode()).hexdigest():
                raise ValueError(_ALTERED)
            frame = from_csv(body)
            frame.columns = pd.Index(next(csv.reader(io.StringIO(body))))  # pandas calls a layer "" Unnamed
        missing = [column for column in columns if column not in frame]
        if missing:
            raise ValueError(f"columns {missing} expected, {list(frame)} found")
    return frame


def from_csv(text: str) -> "pd.DataFrame":
    """A table from CSV, with the names that users choose as they are written.

    For pandas a layer `nan` or the empty name is a missing value, and one named 1.10 a number.

    Raises:
        ValueError: the text is no table.
    """
    import pandas as pd

    frame = pd.read_csv(io.StringIO(text))
    names = [] if "sample" in frame else [name for name in _NAMES if name in frame]  # where a layer's name is a column
    if names:
        verbatim = pd.read_csv(io.StringIO(text), usecols=names, dtype="str", keep_default_na=False)
        frame[names] = verbatim[names]
    return frame


def write_tensors(
    tensors: "Mapping[str, torch.Tensor]", path: str | os.PathLike[str], provenance: Mapping[str, Any]
) -> None:
    """Write a mapping of names to torch tensors as a safetensors file, with a checksum over all of them."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {_KEY: json.dumps({**provenance, "sha256": tensor_checksum(tensors)})}
    with atomic(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except Exception as error:  # safetensors hides the operating system's error in its own
            if isinstance(error, OSError):
                raise
            raise OSError(0, str(error)) from error


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read all tensors of a file that `write_tensors` wrote.

    Raises:
        StorageError: it is missing, truncated or altered.
    """
    from safetensors import safe_open

    path = Path(path)
    with _reading(path), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        expected = json.loads((file.metadata() or {})[_KEY])["sha256"]
        if tensor_checksum(tensors) != expected:
            raise ValueError(_ALTERED)
    return tensors


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The provenance that a file of `write_table` or `write_tensors` carries."""
    path = Path(path)
    with _reading(path):
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            record: dict[str, Any] = json.loads(pq.read_schema(path).metadata[_KEY.encode()])
            return record
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="np") as file:
                record = json.loads(file.metadata()[_KEY])
                return record
        with path.open(encoding="utf-8") as file:
            return _parse_header(file.readline())


def _parse_header(line: str) -> dict[str, Any]:
    start = line.find(f"{_KEY} {{")
    if start < 0:
        raise ValueError("the line with its provenance is missing")
    record: dict[str, Any] = json.JSONDecoder().raw_decode(line, start + len(_KEY) + 1)[0]
    return record


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on a broken file into one error that names the file and the remedy."""
    try:
        yield
    except FileNotFoundError:
        raise StorageError(f"{path}: no such file") from None
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) or _OF_THE_SYSTEM.search(str(error)):
            raise DiskError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StorageError(
            f"{path}: not a file that fishertail wrote ({reason}); delete it to have it computed again"
        ) from error


def _table_checksum(table: "pa.Table") -> str:
    """A checksum of the content. Parquet's own, of its pages, leaves out the footer, which describes the columns."""
    import numpy as np

    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.to_numpy()
        digest.update(f"{name} {column.type} {len(values)}".encode())
        text = values.dtype == object
        digest.update("\0".join(map(str, values)).encode() if text else np.ascontiguousarray(values).data)
    return digest.hexdigest()


def frame_checksum(frame: "pd.DataFrame") -> str:
    """A checksum of the content of a table: its columns, their types and values."""
    import pyarrow as pa

    return _table_checksum(pa.Table.from_pandas(frame, preserve_index=False))


def tensor_checksum(tensors: "Mapping[str, torch.Tensor]") -> str:
    """A checksum of the content of tensors on the CPU: their names, types, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
