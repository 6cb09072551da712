"""Files and pasted text as numbered rows: JSON Lines, JSON, CSV, TSV, Parquet, and gzip around the text ones.

What a file is called decides first, what is in it decides where the name says nothing or ``.json`` holds JSON Lines.
Text is UTF-8 (with or without byte-order mark) or UTF-16 with one, and is kept character by character: only line ends
separate rows, never the other separators of Unicode that may stand inside a text. Files are read piece by piece.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from workbench.errors import UserError
from workbench.pairs.json_rows import json_rows
from workbench.pairs.rows import Numbered, Table
from workbench.pairs.table_rows import table_rows

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
TYPES = ".jsonl, .json, .csv, .tsv or .parquet (.gz of the text ones)"
MOST_BYTES = 8 << 30  # unpacked: beyond this a small .gz could fill the disk
SNIFFED = 1 << 16
BLOCK = 1 << 20
PARQUET_BYTES, PARQUET_WORST = 2 << 20, 1 << 28  # of a batch: as it should be, and if every row named the longest text
_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"BZh": "a bzip2 archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x80\x04": "a Python pickle",
    b"ARROW1": "an Arrow file",
}
_NEEDED = "Use a text file (JSON Lines, JSON, CSV, TSV) in UTF-8, or Parquet."


def open_file(path: Path, name: str) -> Table:
    """The rows of a file; ``name`` is what messages call it. Raises UserError for anything that cannot be read, if not
    at once then while its rows are gone through."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = next((KINDS[suffix] for suffix in reversed(suffixes) if suffix in KINDS), "")
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(name, error) from error
    try:
        start = file.peek(8)
        if not start:
            raise UserError(f"{name} is empty: choose a file with pairs in it.")
        if start[:4] == b"PAR1" or (kind == "parquet" and start[:2] != b"\x1f\x8b"):
            return open_parquet(file, name)
        if suffixes[-1:] == [".gz"] and start[:2] != b"\x1f\x8b":
            raise UserError(f"{name} is called .gz but is not gzip: rename it to what it is.")
        return _open_text_file(file, name, kind, packed=start[:2] == b"\x1f\x8b")
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise _unreadable(name, error) from error
        raise


def open_text(text: str, name: str, kind: str = "") -> Table:
    """Rows of text in memory; ``kind`` is "jsonl", "json", "csv", "tsv" or "" (seen from the text)."""
    text = text.removeprefix("\ufeff")
    return _text_table(io.StringIO(text, newline=_newline(text, kind)), text[:SNIFFED], name, kind)


def _unreadable(name: str, error: OSError) -> UserError:
    return UserError(f"{name} could not be read ({error.strerror or error}): check the file and its rights.")


# -- text files -------------------------------------------------------------------------------------------------------


def _open_text_file(file: BinaryIO, name: str, kind: str, packed: bool) -> Table:
    source = gzip.GzipFile(fileobj=file) if packed else file
    size = os.fstat(file.fileno()).st_size

    @contextmanager
    def guard() -> Iterator[None]:
        """What goes wrong while the file is read becomes a sentence."""
        try:
            yield
        except UnicodeDecodeError as error:
            raise _not_text(file, packed, encoding, name) from error
        except (OSError, EOFError, zlib.error) as error:
            if not packed:
                raise _unreadable(name, error) from error
            raise UserError(f"{name} is a damaged gzip file ({error}): pack or download it again.") from error
        if packed and source.tell() > MOST_BYTES:
            raise UserError(f"{name} unpacks to more than {MOST_BYTES >> 30} GiB: split it, or use Parquet.")

    with guard():
        head = source.read(SNIFFED)
    if not head:
        raise UserError(f"{name} is empty: choose a file with pairs in it.")
    encoding = encoding_of(head, name)
    with guard():
        begin = codecs.getincrementaldecoder(encoding)().decode(head)
    source.seek(0)
    text = io.TextIOWrapper(source, encoding, newline=_newline(begin, kind))
    text._CHUNK_SIZE = 1 << 18  # its own 8 KB make 128,000 calls of 1 GB
    position = lambda: (min(file.raw.tell(), size) if not file.closed else size, size)  # noqa: E731
    return _text_table(text, begin, name, kind, guard, position=position, close=text.close)


def _text_table(
    text: io.TextIOBase,
    head: str,
    name: str,
    kind: str,
    guard: Callable[[], AbstractContextManager] = nullcontext,
    **about: Any,
) -> Table:
    start = head.lstrip()[:1]
    if not start:
        raise UserError(f"{name} is empty: give at least one pair.")
    if _is_json(head, kind):
        columns, rows = None, json_rows(text, start, name)
    else:
        with guard():
            columns, rows = table_rows(text, head, name, kind)
    return _filled(Table(_guarded(rows, guard), columns, **about), name)


def _guarded(rows: Iterator[Numbered], guard: Callable[[], AbstractContextManager]) -> Iterator[Numbered]:
    while True:
        with guard():
            row = next(rows, None)
        if row is None:
            return
        yield row


def _filled(table: Table, name: str) -> Table:
    if not table.head:
        table.close()
        named = f" ({', '.join(table.columns)[:200]})" if table.columns else ""
        raise UserError(f"{name} has a header but no rows{named}: give at least one pair.")
    return table


def _is_json(head: str, kind: str) -> bool:
    return kind in ("json", "jsonl") or (not kind and head.lstrip()[:1] in "{[")


def _newline(head: str, kind: str) -> str:
    """Where lines end: in JSON at line feeds only; the csv module wants all line ends as they are."""
    return "\n" if _is_json(head, kind) else ""


def encoding_of(head: bytes, name: str) -> str:
    """The encoding a file's first bytes speak of. Raises UserError for binary files."""
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise UserError(f"{name} is {what}, not a file of pairs. {_NEEDED}")
    if head[:4] in (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff"):
        raise UserError(f"{name} is in UTF-32: save it as UTF-8.")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    nul = head.find(b"\x00")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        binary = nul >= 0
    else:
        binary = head.count(b"\x00") > len(head) / 10
    if binary:
        raise UserError(binary_file(name, head.count(b"\n", 0, nul) + 1))
    return "utf-8-sig"


def binary_file(name: str, line: int) -> str:
    """The sentence about a NUL byte."""
    return f"{name} is a binary file (a NUL byte in line {line}), not text. {_NEEDED}"


def _not_text(file: BinaryIO, packed: bool, encoding: str, name: str) -> UserError:
    """The sentence about bytes that are not in the encoding, with the line where the first of them stands."""
    file.seek(0)
    source = gzip.GzipFile(fileobj=file) if packed else file
    decoder = codecs.getincrementaldecoder(encoding)()
    title = "UTF-16" if encoding == "utf-16" else "UTF-8"
    line = 1
    try:
        while block := source.read(BLOCK):
            line += decoder.decode(block).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        before, byte = error.object[: error.start], error.object[error.start]
        line += before.count(b"\n") if title == "UTF-8" else before.decode(encoding, "replace").count("\n")
        return UserError(f"{name} is not in {title} (byte 0x{byte:02x} in line {line}): save it as UTF-8.")
    except (OSError, EOFError, zlib.error):
        pass
    return UserError(f"{name} is not in {title}: save it as UTF-8.")


# -- Parquet ----------------------------------------------------------------------------------------------------------


def open_parquet(file: BinaryIO, name: str) -> Table:
    """The rows of a Parquet file, some at a time. Raises UserError for damaged ones and those without rows."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    def damaged(error: Exception) -> UserError:
        reason = (str(error).splitlines() or [""])[0].rstrip(".")[:120]
        return UserError(f"{name} is not a readable Parquet file ({reason}): write or download it again.")

    errors = (pa.ArrowException, OSError, ValueError)
    try:
        opened = parquet.ParquetFile(file, buffer_size=BLOCK, pre_buffer=False)
        about = opened.metadata
        columns, total = list(opened.schema_arrow.names), about.num_rows
        groups = [about.row_group(index) for index in range(about.num_row_groups)]
    except errors as error:
        raise damaged(error) from error
    if not total:
        raise UserError(f"{name} has columns ({', '.join(columns)}) but no rows: give at least one pair.")
    unpacked = sum(group.total_byte_size for group in groups)
    # A text that is stored once can be named by every row: no cell is larger than its column's part of a group.
    longest = max(g.column(k).total_uncompressed_size for g in groups for k in range(g.num_columns))
    step = max(1, min(1000, PARQUET_BYTES * total // max(unpacked, 1), PARQUET_WORST // max(longest, 1)))
    done = 0

    def rows() -> Iterator[Numbered]:
        nonlocal done
        try:
            for batch in opened.iter_batches(step, use_threads=False):
                some = max(1, batch.num_rows * PARQUET_BYTES // max(batch.nbytes, 1))
                for start in range(0, batch.num_rows, some):
                    for row in batch.slice(start, some).to_pylist():
                        done += 1
                        yield done, row
        except errors as error:
            raise damaged(error) from error

    return Table(rows(), columns, total=total, position=lambda: (done, total), close=file.close)


def open_batches(batches: Iterable[list[dict[str, Any]]], columns: list[str], total: int) -> Table:
    """Rows that come in lists, as those of a data set of the Hub."""
    done = 0

    def rows() -> Iterator[Numbered]:
        nonlocal done
        for batch in batches:
            for row in batch:
                done += 1
                yield done, row

    return Table(rows(), columns, total=total, position=lambda: (done, total))
