"""Pairs in Arrow: in memory while they are few, in a file that is mapped into memory when they are many."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from workbench.errors import UserError
from workbench.pairs.messages import Message

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features

IN_MEMORY = 64 << 20  # bytes of texts
BATCH_ROWS = 1000
BATCH_CHARACTERS = 4 << 20
COLUMNS = ("id", "prompt", "chosen", "rejected", "extra")
_folder: Path | None = None


def features() -> Features:
    """The columns of pairs."""
    from datasets import Features, List, Value

    text = Value("string")
    return Features(
        {
            "id": Value("int64"),
            "prompt": List({"role": text, "content": text}),
            "chosen": text,
            "rejected": text,
            "extra": text,
        }
    )


def record_batch(
    ids: Sequence[int],
    prompts: Sequence[Sequence[Message]],
    chosen: Sequence[str],
    rejected: Sequence[str],
    extra: Sequence[str],
    schema: pa.Schema | None = None,
) -> pa.RecordBatch:
    """Rows as one Arrow batch."""
    import pyarrow as pa

    schema = schema or features().arrow_schema
    kind = schema.field("prompt").type
    offsets = np.zeros(len(prompts) + 1, dtype=np.int32)
    np.cumsum([len(prompt) for prompt in prompts], out=offsets[1:])
    fields = [
        pa.array([message[field.name] for prompt in prompts for message in prompt], pa.string())
        for field in kind.value_type
    ]
    messages = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
    columns = [
        pa.array(ids, pa.int64()),
        pa.ListArray.from_arrays(pa.array(offsets), messages, type=kind),
        *(pa.array(texts, pa.string()) for texts in (chosen, rejected, extra)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class TableFile:
    """A file of Arrow batches. It is removed when nobody holds this object any more, and when the process that made it
    ends (a process forked from it leaves it alone)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gone = weakref.finalize(self, _remove, path, os.getpid())

    def remove(self) -> None:
        """Remove it now."""
        self._gone()

    def batches(
        self, positions: np.ndarray | None = None, others: pa.Table | None = None
    ) -> Iterator[pa.RecordBatch | pa.Table]:
        """Its batches, or its rows at these ascending positions, among which -1, -2, ... stand for the first, second,
        ... of the ``others``. Read, not mapped: what was read is let go of."""
        import pyarrow as pa

        # The furthest row of the file up to every position: what follows it is given out with the same batch.
        furthest = None if positions is None else np.maximum.accumulate(np.maximum(positions, -1))
        first = done = 0
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                last = first + len(batch)
                if positions is None:
                    yield batch
                else:
                    end = int(np.searchsorted(furthest, last))
                    if end > done:
                        yield _rows_of(batch, positions[done:end], first, others)
                    done = end
                first = last


def _rows_of(
    batch: pa.RecordBatch, positions: np.ndarray, first: int, others: pa.Table | None
) -> pa.RecordBatch | pa.Table:
    """The rows at these positions of a file whose row ``first`` is the batch's first."""
    import pyarrow as pa

    if (positions >= 0).all():
        return batch if len(positions) == len(batch) else batch.take(pa.array(positions - first))
    places = np.where(positions >= 0, positions - first, len(batch) - 1 - positions)
    return pa.concat_tables([pa.Table.from_batches([batch]), others]).take(pa.array(places))


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _remove_all(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def cache_folder(cache: str | Path | None) -> Path:
    """The folder for large tables: the given one, or a temporary one that goes with the process."""
    global _folder
    if cache is not None:
        folder = Path(cache)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    if _folder is None or not _folder.is_dir():
        _folder = Path(tempfile.mkdtemp(prefix="rahf-pairs-"))
        atexit.register(_remove_all, _folder, os.getpid())
    return _folder


class Writer:
    """Takes pairs one by one and makes a data set of them."""

    def __init__(self, cache: str | Path | None = None, most_bytes: int | None = None) -> None:
        """``most_bytes``: more texts than that are refused (None: as many as the disk takes)."""
        self._most = most_bytes
        self._schema = features().arrow_schema
        self._cache = cache
        self._kept: list[pa.RecordBatch] = []
        self._bytes = 0
        self._file: TableFile | None = None
        self._stream: Any = None
        self._begin()

    def _begin(self) -> None:
        self._rows: tuple[list, list, list, list, list] = ([], [], [], [], [])
        self._characters = 0

    def add(self, number: int, prompt: list[Message], chosen: str, rejected: str, extra: str) -> None:
        """One pair more. Raises UserError if the disk is full, or they are too many bytes."""
        for column, value in zip(self._rows, (number, prompt, chosen, rejected, extra), strict=True):
            column.append(value)
        self._characters += len(chosen) + len(rejected) + len(extra) + sum(len(m["content"]) for m in prompt)
        if len(self._rows[0]) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._rows[0]:
            self._write(record_batch(*self._rows, schema=self._schema))
            self._begin()

    def _write(self, batch: pa.RecordBatch) -> None:
        self._bytes += batch.nbytes
        if self._most is not None and self._bytes > self._most:
            raise UserError(
                f"The pairs are more than the {self._most / 1e6:,.1f} MB that there is room for here: "
                "bring fewer, or delete runs first."
            )
        if self._stream is None and self._bytes <= IN_MEMORY:
            self._kept.append(batch)
            return
        if self._stream is None:
            self._file, self._stream = self._open()
            kept, self._kept = self._kept, []
            for earlier in kept:
                self._to_file(earlier)
        self._to_file(batch)

    def _open(self) -> tuple[TableFile, Any]:
        import pyarrow as pa

        try:
            path = cache_folder(self._cache) / f"pairs-{uuid4().hex}.arrow"
            file = TableFile(path)
            return file, pa.ipc.new_stream(str(path), self._schema)
        except OSError as error:
            raise _full(error) from error

    def _to_file(self, batch: pa.RecordBatch) -> None:
        try:
            self._stream.write_batch(batch)
        except OSError as error:
            raise _full(error) from error

    def finish(self, gone: Sequence[int] = ()) -> tuple[Dataset, TableFile | None]:
        """The data set without the pairs at these positions, and the file it is mapped from, if it is."""
        import pyarrow as pa

        self._flush()
        if self._stream is None:
            table = pa.Table.from_batches(self._kept, self._schema)
            if len(gone):
                table = table.filter(pa.array(_mask(len(table), gone)))
            return in_memory(table.combine_chunks()), None
        try:
            self._stream.close()
        except OSError as error:
            raise _full(error) from error
        self._stream = None
        if len(gone):
            self._rewrite(gone)
        from datasets import Dataset

        return Dataset.from_file(str(self._file.path)), self._file

    def _rewrite(self, gone: Sequence[int]) -> None:
        """The file once more, without the rows at these positions."""
        import pyarrow as pa

        before, first, ordered = self._file, 0, np.sort(np.asarray(gone))
        self._file, self._stream = self._open()
        for batch in before.batches():
            here = ordered[slice(*np.searchsorted(ordered, [first, first + len(batch)]))] - first
            first += len(batch)
            self._to_file(batch.filter(pa.array(_mask(len(batch), here))) if len(here) else batch)
        self._stream.close()
        self._stream = None
        before.remove()

    def abandon(self) -> None:
        """Let go of everything, as after a failure."""
        with suppress(OSError):
            if self._stream is not None:
                self._stream.close()
        if self._file is not None:
            self._file.remove()


def _mask(count: int, gone: Sequence[int] | np.ndarray) -> np.ndarray:
    mask = np.ones(count, dtype=bool)
    mask[np.asarray(gone)] = False
    return mask


def _full(error: OSError) -> UserError:
    return UserError(f"The pairs could not be kept on disk ({error.strerror or error}): free some space and try again.")


def in_memory(table: pa.Table) -> Dataset:
    """A data set of pairs over a table in memory, nothing copied."""
    from datasets import Dataset, DatasetInfo

    return Dataset(table, info=DatasetInfo(features=features()), fingerprint=uuid4().hex)


def batches(dataset: Dataset, columns: Sequence[str]) -> Iterator[pa.Table]:
    """A data set's columns, some rows at a time, in its order."""
    yield from dataset.select_columns(list(columns)).with_format("arrow").iter(BATCH_ROWS)


def ascending(positions: np.ndarray) -> bool:
    """Whether these positions can be read in one go through a file."""
    return bool(len(positions) < 2 or (np.diff(positions) > 0).all())


def spliced(dataset: Dataset, start: int, end: int, new: Dataset) -> Dataset:
    """The data set with ``new`` in place of the rows from ``start`` to ``end``. A small one in memory is written anew, a
    large one is put together from its parts, nothing copied."""
    from datasets import concatenate_datasets

    if dataset.cache_files or dataset.data.nbytes > IN_MEMORY:
        before = [dataset.select(range(start))] if start else []
        after = [dataset.select(range(end, len(dataset)))] if end < len(dataset) else []
        return concatenate_datasets([*before, new, *after])
    import pyarrow as pa

    table, row = rows_of(dataset), rows_of(new)
    table = pa.concat_tables([table.slice(0, start), row, table.slice(end)])
    return in_memory(table.combine_chunks())


def rows_of(dataset: Dataset) -> pa.Table:
    """All rows of a small data set."""
    return dataset.with_format("arrow")[:]
