"""Step 4, the lower half: what the table says, which judges are offered to whom, baselines, and the page itself."""

import json

import pytest
from browser import browser, overflow, page, server  # noqa: F401 - fixtures

from workbench.errors import UserError
from workbench.runs import store
from workbench.ui import compare_baselines, compare_plot, compare_runs, compare_table, state
from workbench.ui.compare_runs import Held

VISITOR = "a" * 32
BASE = {"name": "base", "preferred": 0.42, "win_rate": 0.5, "coherence": 0.9, "kl_from_base": 0.0}


def figures(name, rate, kl=0.6, **more):
    bounds = {"win_rate_low": rate - 0.05, "win_rate_high": rate + 0.04, "kl_from_base_low": kl - 0.1}
    return BASE | {"name": name, "win_rate": rate, "kl_from_base": kl, "kl_from_base_high": kl + 0.1} | bounds | more


def held(*rates, clear=True):
    rows = [figures(name, rate) for name, rate in zip("ABC", rates, strict=False)]
    differences = [
        {"name": one["name"], "than": other["name"], "win_rate": one["win_rate"] - other["win_rate"],
         "win_rate_low": 0.01 if clear else -0.02, "win_rate_high": 0.2}
        for one in rows for other in rows if one is not other
    ]  # fmt: skip
    table = [
        {
            "run": row["name"],
            "name": row["name"],
            "kind": "align",
            "base": BASE,
            "aligned": row,
            "judged": True,
            "same": True,
        }
        for row in rows
    ]
    result = {"models": [BASE, *(row | {"run": row["name"]} for row in rows)], "differences": differences, "pairs": 200}
    return Held("A", table, ["A"], result | {"judge": "the oracle", "judge_about": "Rules."})


def test_the_table_ranks_only_what_can_be_told_apart():
    first = compare_table.table(held(0.9, 0.7), [], {})
    assert first["title"] == "A wins most" and "200 pairs" in first["sub"] and "the oracle" in first["sub"]
    assert compare_table.table(held(0.9, 0.88, clear=False), [], {})["title"] == "A and B win about as often"
    assert [row["name"] for row in first["rows"]] == ["Base", "A", "B"] and first["rows"][1]["mine"]
    assert first["rows"][2]["apart"][0].startswith("\N{MINUS SIGN}0.20") and first["rows"][1]["apart"] == ""
    assert first["rows"][0]["versus"] == "compared against" and first["rows"][0]["first"] == ""


def test_a_table_without_a_judge_tells_the_preferred_share_or_nothing():
    mine = {"preferred": 0.98, "preferred_low": 0.95, "preferred_high": 0.99, "coherence": 0.93}
    row = {"run": "r", "name": "SCIT", "kind": "align", "base": {"preferred": 0.42, "coherence": 0.9}, "aligned": mine}
    row |= {"judged": False, "same": True}
    lacking = {
        "run": "s",
        "name": "Dual",
        "kind": "align",
        "base": None,
        "aligned": None,
        "judged": False,
        "same": False,
    }
    table = compare_table.table(Held("r", [row, lacking], ["r"]), [], {})
    assert table["mid"] == 0.42 and table["measure"] == "preferred" and table["plot"] is None
    assert table["rows"][1]["first"] == ["0.98", "[0.95, 0.99]"] and table["rows"][1]["own"]
    assert table["rows"][2]["first"] == "" and table["rows"][2]["off"] and not table["rows"][2]["own"]
    assert compare_table.table(Held("r", [], []), [], {})["rows"] == []


def test_the_frontier_stays_on_its_plot_and_names_every_point():
    points = [
        row["at"] | {"name": row["name"], "color": "aligned"}
        for row in compare_table.table(held(0.9, 0.2), [], {})["rows"]
    ]
    chart = compare_plot.frontier(points)
    places = [(dot["x"], dot["y"]) for dot in chart["dots"]] + [
        tuple(p) for line in chart["lines"] for p in line["points"]
    ]
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in places) and len(chart["lines"]) == 6 - 2
    assert {label["strong"] for label in chart["labels"]} == {"Base", "A", "B"}
    assert "0.90" in chart["title"] and len(chart["table"]["rows"]) == 3
    assert compare_plot.frontier(points[:1]) is None


def test_names_on_the_plot_are_short_and_their_own():
    names = ["SCIT, blocks 4, alpha 1", "SCIT, blocks 4, alpha 2", "SFT", "A very long title that somebody gave"]
    assert compare_plot.short_names(names) == [
        "SCIT, alpha 1",
        "SCIT, alpha 2",
        "SFT",
        "A very long title tha\N{HORIZONTAL ELLIPSIS}",
    ]


# -- judges ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def owner(monkeypatch):
    for name in ("SPACE_ID", "RAHF_PUBLIC", "RAHF_OWNER", "RAHF_JUDGE_URL", "RAHF_JUDGE_PRICE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_judges_that_are_offered(owner):
    values = [one["value"] for one in compare_runs.judges_for("demo")]
    assert values == ["auto", "probe", "votes", "reward", "endpoint", "none"]
    assert compare_runs.judges_for("mine.jsonl")[0]["value"] == "probe"  # no oracle comes with these
    sent = {"judge": "endpoint", "where": "http://127.0.0.1:1/v1#m", "price": "0.15, 0.6"}
    assert compare_runs.judge_of(sent, "demo") == {
        "judge": "endpoint:http://127.0.0.1:1/v1#m",
        "judge_price": [0.15, 0.6],
    }
    assert compare_runs.judge_of({"judge": "reward", "where": "org/name"}, "demo") == {"judge": "reward:org/name"}
    for bad in ({}, {"judge": "fixed"}, {"judge": "endpoint"}, {"judge": ["auto"]}, {"judge": "demo"}):
        with pytest.raises(UserError):
            compare_runs.judge_of(bad, "demo")
    for price in ("x", "1", "1 2 3", "-1 2", "nan 1"):
        with pytest.raises(UserError, match="two prices"):
            compare_runs.judge_of(sent | {"price": price}, "demo")


def test_strangers_name_no_address_and_no_folder(owner, tmp_path):
    owner.setenv("RAHF_PUBLIC", "1")
    assert "endpoint" not in [one["value"] for one in compare_runs.judges_for("demo")]
    with pytest.raises(UserError, match="offered"):
        compare_runs.judge_of({"judge": "endpoint", "where": "http://169.254.169.254/v1#m"}, "demo")
    for folder in (str(tmp_path), "/etc", "workbench"):
        with pytest.raises(UserError, match="Hub id"):
            compare_runs.judge_of({"judge": "reward", "where": folder}, "demo")
    owner.setenv("RAHF_JUDGE_URL", "https://judge.example/v1#big")
    owner.setenv("RAHF_JUDGE_PRICE", "1 2")
    fixed = compare_runs.judge_of({"judge": "fixed", "where": "http://elsewhere/v1#m"}, "demo")
    assert fixed == {"judge": "endpoint:https://judge.example/v1#big", "judge_price": [1.0, 2.0]}
    owner.setenv("RAHF_OWNER", "1")
    assert "endpoint" in [one["value"] for one in compare_runs.judges_for("demo")]


# -- runs and baselines ------------------------------------------------------------------------------------------------


def finished(kind, method, owner="", held_out=True, **config):
    run = store.create(kind, {"model": "demo", "pairs": "demo", "method": method} | config, owner=owner)
    (run.path / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (run.path / "adapter" / name).write_text("{}")
    result = {"held_out": {"base": BASE, "aligned": figures("aligned", 0.9)}} if held_out else {}
    run.write_status(state="finished", layers=[3, 4] if kind == "align" else None, alpha=None, result=result)
    return run


@pytest.fixture
def runs_root(tmp_path, monkeypatch):
    monkeypatch.setenv("RAHF_RUNS", str(tmp_path / "runs"))
    return tmp_path


def test_alignments_and_baselines_stand_in_one_table_and_other_bases_cannot_be_ticked(runs_root, owner):
    mine, beside = finished("align", "scit"), finished("baseline", "sft")
    other = finished("align", "dual", model="org/other")
    finished("align", "scit", owner="b" * 32)  # somebody else's
    found = compare_runs.read(state.open_workspace(VISITOR), mine)
    assert [row["run"] for row in found.rows] == [mine.id, other.id, beside.id]
    assert [row["same"] for row in found.rows] == [True, False, True] and found.picked == [mine.id]
    assert [row["name"] for row in found.rows] == ["SCIT, blocks 3 and 4", "Dual, blocks 3 and 4", "SFT"]
    state.keep_setting(VISITOR, heldout={"picked": [beside.id, other.id, "../etc"]})
    assert compare_runs.read(state.open_workspace(VISITOR), mine).picked == [beside.id]


def test_an_evaluation_shows_its_numbers_and_the_one_before_while_it_works(runs_root, owner):
    mine, beside = finished("align", "scit"), finished("baseline", "sft", held_out=False)
    told = store.create("evaluate", {"runs": []}, owner=VISITOR)
    rows = [BASE, figures("SCIT", 0.8) | {"run": mine.id}, figures("SFT", 0.7) | {"run": beside.id}]
    told.write_status(state="finished", result={"models": rows, "differences": [], "pairs": 50, "judge": "the oracle"})
    state.keep_setting(VISITOR, evaluation=told.id)
    found = compare_runs.read(state.open_workspace(VISITOR), mine)
    assert [row["judged"] for row in found.rows] == [True, True] and not found.busy
    assert found.rows[0]["aligned"]["win_rate"] == 0.8 and set(found.picked) == {mine.id, beside.id}
    new = store.create("evaluate", {"runs": []}, owner=VISITOR)
    state.keep_setting(VISITOR, evaluation=new.id, evaluated=told.id)
    found = compare_runs.read(state.open_workspace(VISITOR), mine)
    assert found.busy and found.rows[0]["aligned"]["win_rate"] == 0.8
    new.write_status(state="failed", error="The judge does not answer.")
    table = compare_table.table(compare_runs.read(state.open_workspace(VISITOR), mine), [], {})
    assert table["wrong"] == "The judge does not answer." and table["bar"] is None and len(table["rows"]) == 3
    strange = store.create("evaluate", {"runs": []}, owner="b" * 32)
    strange.write_status(state="finished", result={"models": [BASE, figures("secret", 1.0) | {"run": mine.id}]})
    state.keep_setting(VISITOR, evaluation=strange.id, evaluated=strange.id)
    assert not compare_runs.read(state.open_workspace(VISITOR), mine).result


def test_a_baseline_gets_the_settings_of_the_run(runs_root, owner, monkeypatch):
    import workbench.runs.worker as worker

    started = []
    monkeypatch.setattr(worker, "submit", started.append)
    mine = finished("align", "scit", seed=3, align_steps=50, lora_rank=4)
    compare_baselines.press(VISITOR, {"action": "baseline", "method": "sft"}, mine)
    config = started[0].config()
    assert (config["method"], config["seed"], config["align_steps"], config["lora_rank"]) == ("sft", 3, 50, 4)
    assert started[0].kind == "baseline" and started[0].owner == VISITOR
    panel, busy = compare_baselines.panel(state.open_workspace(VISITOR), mine)
    assert busy and [line["name"] for line in panel["runs"]] == ["SFT"] and panel["runs"][0]["act"]["act"] == "stop-run"
    for again in ({"action": "baseline", "method": "sft"}, {"action": "baseline", "method": "rm -rf"}):
        with pytest.raises(UserError):
            compare_baselines.press(VISITOR, again, mine)
    with pytest.raises(UserError, match="no such run"):
        compare_baselines.press(VISITOR, {"action": "stop-run", "run": mine.id}, mine)
    started[0].write_status(state="failed", error="No memory.")
    panel, busy = compare_baselines.panel(state.open_workspace(VISITOR), mine)
    assert not busy and panel["runs"][0]["text"] == "No memory." and panel["runs"][0]["act"]["act"] == "go-on"


def test_a_refused_start_leaves_nothing_behind_and_a_start_counts_to_the_quota(runs_root, owner, monkeypatch):
    import workbench.runs.worker as worker

    def refuse(run):
        raise UserError("20 of your runs are waiting already.")

    mine = finished("align", "scit", owner=VISITOR)
    (mine.path / "big").write_bytes(bytes(300_000))
    sft = {"action": "baseline", "method": "sft"}
    monkeypatch.setattr(worker, "submit", refuse)
    for _ in range(2):  # the second press gets the same sentence
        with pytest.raises(UserError, match="waiting already"):
            compare_baselines.press(VISITOR, sft, mine)
    assert [run.id for run in store.list_runs(all=True)] == [mine.id]
    monkeypatch.setattr(worker, "submit", lambda run: None)
    monkeypatch.setenv("RAHF_QUOTA", "8e5")
    compare_baselines.press(VISITOR, sft, mine)  # 0.2 of 0.8 MB are left
    for more in (sft | {"method": "hir"}, {"action": "study", "methods": ["prompt", "sft"], "seeds": 2}):
        with pytest.raises(UserError, match="and this would add"):
            compare_baselines.press(VISITOR, more, mine)


def test_a_study_is_asked_for_and_told(runs_root, owner, monkeypatch):
    import workbench.runs.worker as worker

    started = []
    monkeypatch.setattr(worker, "submit", started.append)
    mine = finished("align", "scit", align_steps=50)
    for bad in (
        {"methods": ["sft"], "seeds": 3},
        {"methods": ["sft", "scit"], "seeds": 99},
        {"methods": "x", "seeds": "y"},
    ):
        with pytest.raises(UserError, match="at least two methods"):
            compare_baselines.press(VISITOR, {"action": "study"} | bad, mine)
    compare_baselines.press(VISITOR, {"action": "study", "methods": ["scit", "sft", "x"], "seeds": "2"}, mine)
    config = started[0].config()
    assert (config["methods"], config["seeds"], config["settings"]["align_steps"]) == (["sft", "scit"], 2, 50)
    with pytest.raises(UserError, match="at work already"):
        compare_baselines.press(VISITOR, {"action": "study", "methods": ["scit", "sft"], "seeds": 2}, mine)
    rows = [figures("", 0.5, 0.0) | {"method": "base"}, figures("", 0.9) | {"method": "scit"}]
    started[0].write_status(
        state="finished", result={"pooled": rows, "finding": ["RAHF-SCIT wins."], "setting": "Demo."}
    )
    panel, busy = compare_baselines.panel(state.open_workspace(VISITOR), mine)
    assert not busy and panel["study"]["finding"] == ["RAHF-SCIT wins."] and len(panel["study"]["plot"]["dots"]) == 2


# -- the page ----------------------------------------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)> =cmd"


def test_the_table_on_the_page(page, server, monkeypatch):  # noqa: F811
    """Ticks and judge are remembered, files are saved from the browser, nothing overflows; texts stay texts."""
    from playwright.sync_api import expect

    monkeypatch.setenv("RAHF_RUNS", str(server.runs))
    finished("baseline", "sft").describe(HOSTILE)
    finished("align", "scit")  # the newer one is chosen
    page.get_by_role("button", name="Start with the demo").first.click()
    page.locator('#rw-steps [data-step="compare"]:not([aria-disabled="true"])').click()
    table = page.locator("#rw-heldout")
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(table).to_contain_text("<img src=x")
    assert table.locator("img").count() == 0
    box = table.get_by_role("checkbox", name="Evaluate <img")
    expect(box).not_to_be_checked()
    box.check()
    expect(page.locator("[data-go]")).to_have_text("Evaluate 2 runs")
    page.locator('#rw-compare-heldout [data-field="judge"]').select_option("endpoint")
    where = page.locator('#rw-compare-heldout [data-field="where"]')
    where.fill("http://127.0.0.1:9/v1#none")
    where.press("Tab")
    expect(page.locator("#rw-baselines")).to_contain_text("SFT again")
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert overflow(page) <= 0
    page.reload()
    page.locator('#rw-steps [data-step="compare"]').click()
    expect(page.locator("[data-go]")).to_have_text("Evaluate 2 runs")
    expect(page.locator('#rw-compare-heldout [data-field="where"]')).to_have_value("http://127.0.0.1:9/v1#none")


def test_runs_are_evaluated_in_a_process_of_their_own(page, server, monkeypatch, tmp_path):  # noqa: F811
    """A press, progress, the numbers; a judge that does not answer is a sentence and leaves them."""
    import torch
    from playwright.sync_api import expect
    from tiny import saved, tiny_model

    from workbench.models import load_model
    from workbench.pairs import load_pairs
    from workbench.rahf.adapters import add_adapter, save_adapter
    from workbench.rahf.config import RunConfig
    from workbench.stamp import stamp

    monkeypatch.setenv("RAHF_RUNS", str(server.runs))
    settings = saved(tmp_path, tiny_model())
    config = RunConfig.from_dict(settings | {"max_new_tokens": 4, "dtype": "float32", "device": "cpu"})
    run = store.create("align", config.to_dict())
    loaded, pairs = load_model(config.model, "cpu", "float32"), load_pairs(config.pairs)
    add_adapter(loaded, "aligned", config, 3, seed=1)
    torch.nn.init.normal_(next(p for name, p in loaded.model.named_parameters() if "lora_B" in name), std=0.1)
    save_adapter(loaded, "aligned", run.adapter)
    result = {"config": config.to_dict(), "layers": [1], "pairs_fingerprint": pairs.fingerprint}
    (run.path / "result.json").write_text(json.dumps(result))
    (run.path / "made_of.json").write_text(json.dumps(stamp(loaded.fingerprint, pairs.fingerprint, 0)))
    run.write_status(state="finished", layers=[1], result=result)

    page.get_by_role("button", name="Start with the demo").first.click()
    page.locator('#rw-steps [data-step="compare"]:not([aria-disabled="true"])').click()
    panel = page.locator("#rw-compare-heldout")
    panel.locator("[data-go=evaluate]").click()
    expect(panel.get_by_role("progressbar")).to_be_visible()
    expect(panel).to_contain_text("Judged by a probe at block 1, trained on the same pairs", timeout=240_000)
    expect(panel).to_contain_text("Was anything lost?")
    expect(panel.locator("#rw-heldout tbody tr").nth(1)).to_contain_text("[")
    with page.expect_download() as waiting:
        panel.locator('[data-file="json"]').click()
    assert [row["name"] for row in json.loads(waiting.value.path().read_text())] == ["base", "SCIT, block 1"]

    panel.locator('[data-field="judge"]').select_option("endpoint")
    panel.locator('[data-field="where"]').fill("ftp://nowhere#m")
    panel.locator("[data-go=evaluate]").click()
    expect(panel.get_by_role("alert")).to_contain_text("is no address of a judge", timeout=240_000)
    expect(panel).to_contain_text("Judged by a probe at block 1")  # what was measured stays


def test_the_files_hold_what_is_shown_and_no_formula(page):  # noqa: F811
    from playwright.sync_api import expect

    page.evaluate(
        """rows => {
        const host = document.createElement('div');
        host.className = 'rw-host';
        host.id = 'probe';
        document.body.append(host);
        rw.mount({ querySelector: () => host }, { value: JSON.stringify(rows) }, () => {}, () => {}, 'compare-heldout'); }""",
        compare_table.table(held(0.9), [{"value": "auto", "label": "Oracle", "asks": ""}], {})
        | {"file": [{"name": "=1+1", "win_rate": 0.9, "note": 'a,"b"'}]},
    )
    expect(page.locator("#probe [data-file]")).to_have_count(2)
    saved = {}
    for kind in ("csv", "json"):
        with page.expect_download() as waiting:
            page.locator(f'#probe [data-file="{kind}"]').click()
        saved[kind] = waiting.value.path().read_text()
    assert saved["csv"] == 'name,win_rate,note\n\'=1+1,0.9,"a,""b"""\n'
    assert json.loads(saved["json"])[0]["name"] == "=1+1"
