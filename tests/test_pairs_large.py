"""Many pairs: they stream through bounded memory into a mapped file, and behave there as they do in memory."""

import gc
import gzip
import json
import random
import time
import tracemalloc

import numpy as np
import pytest
from large_pairs import rows as large_rows
from large_pairs import write
from tiny import tiny_model

from workbench.errors import Stopped, UserError
from workbench.pairs import (
    Pair,
    as_messages,
    compare_sets,
    keep,
    lengths,
    load_pairs,
    pairs_from_text,
    preview,
    rows,
    store,
    table_rows,
    token_report,
)
from workbench.pairs.checks import length_auc
from workbench.pairs.lengths import character_lengths, token_lengths
from workbench.pairs.readers import open_file
from workbench.progress import Progress


@pytest.fixture
def small_memory(monkeypatch):
    """Pairs go into a file from 200 KB on."""
    monkeypatch.setattr(store, "IN_MEMORY", 200_000)
    monkeypatch.setattr(store, "BATCH_CHARACTERS", 100_000)
    monkeypatch.setattr(rows, "HEAD_CHARACTERS", 100_000)


def lines(values):
    return "".join(json.dumps(value) + "\n" for value in values)


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "size"), [("jsonl", 20_000), ("csv", 8_000)])
def test_memory_does_not_grow_with_the_file(kind, size, small_memory, tmp_path):
    """Five times as much takes no more memory, in Python and in Arrow."""
    import pyarrow as pa

    taken, default = {}, pa.default_memory_pool()
    for count in (200, 1000):
        path = write(tmp_path / f"{count}.{kind}", count, size)
        pool = pa.proxy_memory_pool(default)
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            pairs = load_pairs(path, cache=tmp_path)
            taken[count] = tracemalloc.get_traced_memory()[1], pool.max_memory()
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(default)
        assert len(pairs) > 0.95 * count and pairs.dataset.cache_files
    assert path.stat().st_size > 900 * size
    assert taken[1000][0] - taken[200][0] < 3_000_000 and taken[1000][1] - taken[200][1] < 2_000_000, taken


def test_parquet_is_read_in_pieces(small_memory, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    values = list(large_rows(300, 20_000))
    parquet.write_table(pa.Table.from_pylist(values), tmp_path / "x.parquet", row_group_size=150)
    (tmp_path / "x.jsonl").write_text(lines(values))
    tracemalloc.start()
    try:
        pairs = load_pairs(tmp_path / "x.parquet")
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()
    assert pairs.fingerprint == load_pairs(tmp_path / "x.jsonl").fingerprint


def test_progress_is_a_true_share_and_a_stop_leaves_nothing(small_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "HEAD", 100)
    path, seen = write(tmp_path / "x.jsonl", 3000, 1500), []
    load_pairs(path, progress=Progress(seen.append), cache=tmp_path / "cache")
    steps = [event for event in seen if event.stage == "pairs"]
    shares = [event.step / event.total for event in steps]
    assert shares == sorted(shares) and shares[-1] == 1 and len([share for share in shares if 0.1 < share < 0.9]) >= 3
    assert [event.metrics["rows"] for event in steps[:-1]] == [*range(0, 3000, 500), 3000]
    assert steps[2].total == path.stat().st_size
    gc.collect()
    assert not list((tmp_path / "cache").iterdir())  # nobody held the pairs

    def stop(event):
        if event.metrics.get("rows", 0) >= 2000:
            assert list((tmp_path / "cache").iterdir())
            raise Stopped

    with pytest.raises(Stopped):
        load_pairs(path, progress=Progress(stop), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


# -- the same, mapped --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    rng = random.Random(0)
    values = list(large_rows(700, 1200))
    for row in rng.sample(values, 30):
        values.append(row | {"chosen": row["rejected"], "rejected": row["chosen"]})  # contradictions
    for number in range(40):
        values.append({"prompt": f"Straße {number // 2}?", "chosen": f"ÄPFEL {number}", "rejected": "ﬁn Σίσυφος"})
    path = tmp_path_factory.mktemp("pairs") / "x.jsonl"
    path.write_text(lines(values), encoding="utf-8")
    return path


def both(source, monkeypatch, tmp_path):
    plain = load_pairs(source)
    monkeypatch.setattr(store, "IN_MEMORY", 200_000)
    monkeypatch.setattr(store, "BATCH_CHARACTERS", 100_000)
    mapped = load_pairs(source, cache=tmp_path / "cache")
    assert not plain.dataset.cache_files and mapped.dataset.cache_files
    return plain, mapped


def test_mapped_pairs_are_like_those_in_memory(source, monkeypatch, tmp_path):
    plain, mapped = both(source, monkeypatch, tmp_path)
    assert plain.report == mapped.report and plain.report.counts["contradiction"] >= 40
    changes = [
        lambda p: p,
        lambda p: p.without(p.ids[::3]),
        lambda p: p.without(p.ids[::3]).without(p.ids[1::5]),
        lambda p: p.select(range(100, 300)),
        lambda p: p.select(random.Random(1).sample(range(len(p)), 200)),
        lambda p: p.select([-1, 5, 5]),
        lambda p: p.with_pair(Pair(0, "New?", "yes", "no")),
        lambda p: p.with_pair(Pair(p.ids[7], as_messages("Changed?"), "yes", "no")).without(p.ids[3:5]),
        lambda p: (
            p.with_pair(Pair(0, "A?", "a", "b")).with_pair(Pair(p.ids[0], "B?", "a", "b")).select(range(0, 90, 2))
        ),
    ]
    for number, change in enumerate(changes):
        one, other = change(plain), change(mapped)
        assert list(one) == list(other), number
        assert [one[i] for i in range(len(one))] == list(one) and len(one) == len(other)
        assert one.ids == other.ids == [pair.id for pair in one]
        assert one.fingerprint == other.fingerprint and one.prompt_keys == other.prompt_keys
        assert one.prompt_keys == [keep.key_hash(pair.prompt).hex() for pair in one]
        assert one.dataset["extra"][:] == other.dataset["extra"][:] and one.extra_columns == other.extra_columns
        if len(one) > 3:
            assert one.sides(3) == other.sides(3)
        assert one.search("ocean w") == other.search("ocean w")
        a, b = one.to_jsonl(tmp_path / "a.jsonl"), other.to_jsonl(tmp_path / "b.jsonl")
        assert a.read_bytes() == b.read_bytes()
    assert (character_lengths(plain) == character_lengths(mapped)).all()
    sizes = [[sum(len(m["content"]) for m in p.prompt), len(p.chosen), len(p.rejected)] for p in plain]
    assert character_lengths(plain).tolist() == sizes


def test_the_file_goes_with_the_last_who_reads_it(source, monkeypatch, tmp_path):
    _, mapped = both(source, monkeypatch, tmp_path)
    files = lambda: len(list((tmp_path / "cache").iterdir()))  # noqa: E731
    changed = mapped.without(mapped.ids[:3]).with_pair(Pair(0, "New?", "yes", "no"))
    shuffled = mapped.select([5, 2, 9])
    wanted = list(mapped)[3:]
    del mapped
    gc.collect()
    assert files() == 1 and list(changed)[:-1] == wanted and shuffled[0] == wanted[2]
    del shuffled, changed
    gc.collect()
    assert files() == 0


def test_a_full_disk_is_said(source, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "IN_MEMORY", 1000)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be kept on disk"):
        load_pairs(source, cache=tmp_path / "file" / "x")


# -- what is dropped, against the slow way -----------------------------------------------------------------------------


def test_duplicates_and_contradictions_as_counted_by_hand():
    rng = random.Random(2)
    values = [
        {"prompt": f"p{rng.randrange(4)}", "chosen": f"t{rng.randrange(4)}", "rejected": f"t{rng.randrange(4)}"}
        for _ in range(120)
    ]
    pairs = pairs_from_text(lines(values))
    triples = [(row["prompt"], row["chosen"], row["rejected"]) for row in values]
    wanted = {"identical": [], "duplicate": [], "contradiction": []}
    for number, (prompt, chosen, rejected) in enumerate(triples, 1):
        if chosen == rejected:
            wanted["identical"].append(number)
        elif triples[number - 1] in triples[: number - 1]:
            wanted["duplicate"].append(number)
        elif (prompt, rejected, chosen) in triples:
            wanted["contradiction"].append(number)
    assert pairs.report.dropped == wanted and all(wanted.values())
    left = [triples[number - 1] for number in pairs.ids]
    against = [
        number
        for number, (prompt, chosen, rejected) in zip(pairs.ids, left, strict=True)
        if any(p == prompt and (r == chosen or c == rejected) for p, c, r in left)
    ]
    (said,) = [sentence for sentence in pairs.report.warnings if "another pair rejects" in sentence]
    assert said.startswith(f"In {len(against)} pairs") and f"rows {against[0]}, {against[1]}" in said


# -- search and pages --------------------------------------------------------------------------------------------------


def test_search_equals_folding_every_text():
    rng = random.Random(3)
    pieces = ["ß", "ss", "SS", "ẞ", "İ", "i", "I", "ı", "ﬁ", "fi", "Σ", "ς", "σ", "K", "k", "K", "ŉ", "é", "É", "e\u0301",
              "Ǆ", "ǆ", "a", " ", ".*", "\\", "[", "ა", "Ა", "ꭰ", "日", "👋"]  # fmt: skip
    texts = ["".join(rng.choices(pieces, k=6)) for _ in range(400)]
    pairs = pairs_from_text(
        lines({"prompt": f"{text}?", "chosen": f"{n} a", "rejected": "b"} for n, text in enumerate(texts))
    )
    for query in [*pieces, *("".join(rng.choices(pieces, k=2)) for _ in range(150))]:
        wanted = query.strip().casefold()
        if not wanted or "sss" in wanted or wanted == "b":
            continue
        slow = [number for number, text in enumerate(texts) if holds(f"{text}?", wanted) or wanted in f"{number} a"]
        assert pairs.search(query) == slow, (query, wanted)


def holds(text, wanted):
    """Whether some letters of the text in a row fold into what is wanted."""
    ends = range(len(text) + 1)
    return any(text[start:end].casefold() == wanted for start in ends for end in ends[start + 1 :])


def test_extra_columns_of_chosen_rows(source):
    pairs = load_pairs(source)
    ids = [pairs.ids[9], pairs.ids[4]]
    assert pairs.extra_columns == ["source", "score"]
    assert pairs.extra_of(ids, "source") == [json.loads(pairs.dataset[i]["extra"])["source"] for i in (9, 4)]
    assert pairs.extra_of([pairs.ids[-1]], "source") == [None] and pairs.extra_of([], "x") == []
    with pytest.raises(UserError, match="no longer there"):
        pairs.extra_of([10**9], "source")


# -- tokens of many ----------------------------------------------------------------------------------------------------


def test_tokens_of_a_sample(source, monkeypatch):
    model, pairs = tiny_model(layers=1, context=64), load_pairs(source).select(range(120))
    every = token_lengths(pairs, model)
    exact = token_report(pairs, model)
    assert exact["sample"] is None and exact["prompt_tokens"]["max"] == every[:, 0].max()
    monkeypatch.setattr(lengths, "EXACT", 100)
    monkeypatch.setattr(lengths, "SAMPLE", 60)
    monkeypatch.setattr(lengths, "LONGEST", 5)
    seen = []
    report = token_report(pairs, model, progress=Progress(seen.append))
    assert seen[-1].step == seen[-1].total > 60
    assert report["sample"] == 60 and sum(report["histograms"]["prompt"]["counts"]) == 60
    for column, name in enumerate(("prompt", "chosen", "rejected")):
        assert every[:, column].max() * 0.95 <= report[f"{name}_tokens"]["max"] <= every[:, column].max()
    assert report["prompt_tokens"]["p50"] == pytest.approx(exact["prompt_tokens"]["p50"], rel=0.3)
    assert set(report["too_long"]) < set(exact["too_long"]) and 0 < report["too_long_share"] <= 1
    assert token_report(pairs, model) == report
    assert token_report(pairs, model, seed=1) != report


def test_the_interval_of_many_is_that_of_the_bootstrap(monkeypatch):
    rng = np.random.default_rng(0)
    base = rng.integers(5, 40, 3000)
    chosen, rejected = base + rng.integers(0, 12, 3000), base + rng.integers(0, 9, 3000)
    slow = length_auc(chosen, rejected, 2000)
    monkeypatch.setattr(lengths, "EXACT", 100)
    fast = length_auc(chosen, rejected)
    assert fast["value"] == slow["value"]
    assert fast["low"] == pytest.approx(slow["low"], abs=0.001) and fast["high"] == pytest.approx(
        slow["high"], abs=0.001
    )


# -- preview -----------------------------------------------------------------------------------------------------------


def test_a_preview_shows_what_a_mapping_gives(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("q,good,bad\nA?,yes,no\nB?,yes,yes\nC?,a,b,c\nD?,, no\nE?, fine,bad\n")
    seen = preview(path)
    assert (seen.format, seen.pairs, seen.dropped, seen.total) == ("", [], {}, 5)
    seen = preview(path, columns={"prompt": "q", "chosen": "good", "rejected": "bad"}, count=1)
    assert seen.pairs == [{"prompt": "A?", "chosen": "yes", "rejected": "no"}] and len(seen.rows) == 1
    assert seen.dropped == {"broken line": 1, "empty": 1, "identical": 1} and seen.looked_at == 5
    assert seen.roles == {"prompt": "q", "chosen": "good", "rejected": "bad"}
    with pytest.raises(UserError, match="no column worse: choose from q, good, bad"):
        preview(path, columns={"prompt": "q", "chosen": "good", "rejected": "worse"})
    with pytest.raises(UserError, match="which columns are chosen and rejected"):
        preview("", text=path.read_text(), columns={"chosen": "good"})


def test_a_preview_of_a_large_file_reads_its_beginning_only(tmp_path):
    path = write(tmp_path / "x.jsonl", 3000, 1000)
    with path.open("ab") as file:
        file.write(b"\xff")  # would be refused if it were read
    seen = preview(path, count=3)
    assert len(seen.rows) == len(seen.pairs) == 3 and seen.total is None and seen.looked_at == 1000
    with pytest.raises(UserError, match=r"not in UTF-8 .byte 0xff in line 3001"):
        load_pairs(path)


def test_two_files_are_compared_by_prompt(tmp_path):
    def made(name, prompts):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(lines({"prompt": p, "chosen": f"{name} {n}", "rejected": "no"} for n, p in enumerate(prompts)))
        return load_pairs(path)

    long = "Please explain to a child of six years in simple words why the sky looks blue during the day and red in the evening"
    train = made("train", ["What is red?", "Name 3 rivers.", long, "Only here?", "What is red?"])
    test = made("test", ["what IS  red?", "Name 4 rivers!", f"{long} or so", "Elsewhere?", "Name 3 rivers."])
    found = compare_sets(train, test)
    assert (found["first"], found["second"], found["exact"], found["near"], found["pairs"]) == (5, 5, 2, 2, 4)
    assert found["share"] == 0.8 and "4 of the 5 pairs of test" in found["sentence"]
    wanted = [(1, 1), (2, 2), (3, 3), (2, 5)]
    assert [(item["first"], item["second"]) for item in found["examples"]] == wanted
    none = compare_sets(train, made("other", ["Nothing like it?"]))
    assert none["pairs"] == 0 and none["sentence"].startswith("No prompt of the 1 pairs of other")


def test_cells_and_rows_that_are_made_to_take_memory_or_time(monkeypatch, tmp_path):
    began = time.process_time()
    quotes = "[{'role': 'user', 'content': " + "\\'" * 100_000  # each could begin a text that never ends
    assert table_rows._cell(quotes, "prompt") == quotes
    assert time.process_time() - began < 5  # it was minutes: 1.8 s for 8,000, growing with the square
    literal = "[{'role': 'user', 'content': 'hello'}]"
    assert table_rows._cell(literal, "prompt") == [{"role": "user", "content": "hello"}]
    monkeypatch.setattr(table_rows, "MOST_LITERAL", 10)
    assert table_rows._cell(literal, "prompt") == literal
    path = tmp_path / "rows.jsonl.gz"
    row = json.dumps({"prompt": "a", "chosen": "b", "rejected": "c", "more": [{}] * 500_000})
    with gzip.open(path, "wt") as file:
        file.writelines([row + "\n"] * 12)
    with open_file(path, "rows") as table:
        assert len(table.head) < 5, "lists count as texts do: only so many rows are held at once"
        assert len(list(table.rows())) == 12


def test_a_text_that_parquet_stores_once_is_not_held_once_per_row(tmp_path):
    """A file of some kilobytes whose every row names the same long text: read a few rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from workbench.pairs import readers

    long, count = "x" * 1_000_000, 3_000
    once = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([long]))
    columns = {"prompt": [f"p{n}" for n in range(count)], "chosen": once, "rejected": ["no"] * count}
    path = tmp_path / "once.parquet"
    parquet.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 1_000_000
    before = pa.total_allocated_bytes()
    largest = 0
    with readers.open_file(path, path.name) as table:
        for number, (_, row) in zip(range(10), table.rows(), strict=False):
            assert len(row["chosen"]) == len(long), number
            largest = max(largest, pa.total_allocated_bytes() - before)
    assert largest < 2 * readers.PARQUET_WORST, largest
