"""Step 2 in words and numbers: every score with its interval and meaning, and what shortcuts explain."""

import pytest

from tests.test_layers_view import score
from workbench.ui import layers_scores as ls


def control(name, auc, half=0.03, null=(0.45, 0.55), rival=None):
    return {
        "name": name, "auc": auc, "low": auc - half, "high": auc + half,
        "null_low": null[0], "null_high": null[1], "rival": rival,
    }  # fmt: skip


def test_table_holds_every_score_with_its_interval_and_says_where_there_is_none():
    made = ls.table([score(3, 0.9, fisher=None, p_value=0.0001, null_auc_mean=0.5)])
    titles = [column["title"] for column in made["columns"]]
    cells = dict(zip(titles, made["cells"][0], strict=True))
    assert cells["Block"] == ["3", ""]
    assert cells["Probe AUC"] == ["0.90", "[0.86, 0.93]"] and cells["Chance"] == ["0.50", "[0.44, 0.56]"]
    assert cells["Fisher ratio"] == ["\N{EN DASH}", ""] and cells["p"] == ["<0.001", ""]
    assert "Explained" not in titles, "no column for what was not measured"
    row = dict(zip(made["keys"], made["rows"][0], strict=True))
    assert row["layer"] == 3 and row["probe_auc_low"] == 0.86 and row["fisher"] is None
    assert all(column["meaning"].endswith(".") for column in made["columns"])
    assert {"Probe AUC", "Shortcuts"} <= {term for term, _ in made["explanations"]}


@pytest.mark.parametrize(
    ("auc", "length", "said"),
    [
        (0.97, 0.8, "No shortcut explains block 5"),
        (0.90, 0.88, "Answer length alone comes close to block 5"),
        (0.90, 0.84, "Answer length alone comes close to block 5"),  # 0.81 to 0.87 reaches into 0.86 to 0.93
        (0.90, 0.95, "Answer length alone tells as much as block 5"),
        (0.55, 0.5, "Block 5 reads no more than chance"),
    ],
)
def test_what_the_shortcuts_say(auc, length, said):
    made = ls.controls([score(5, auc)], [control("prompt", 0.5), control("length", length)])
    assert made["blocks"][0]["title"] == said
    assert [row["name"] for row in made["rows"]] == ["Answer length", "Prompt only"], "always in one order"
    assert made["rows"][0]["nhi"] == 0.55 and made["from"] <= 0.4
    assert (made["blocks"][0]["nlo"], made["blocks"][0]["nhi"]) == (0.44, 0.56), "bands are of one width"


@pytest.mark.parametrize("length", [0.7, 0.9])
def test_what_explains_is_what_the_engine_wrote_or_says_of_an_older_file(length):
    older = {"layers": [score(0, 0.6), score(1, 0.95)], "controls": [control("length", length)]}
    assert ls.explained(older) is (length == 0.9)
    assert ls.explained(older | {"explained_by": ["words"]}) is True
    assert ls.explained(older | {"explained_by": []}) is False


def test_prompts_that_tell_the_sides_are_called_out():
    assert not ls.controls([score(0, 0.9)], [control("prompt", 0.5, null=(0.5, 0.5))])["leak"]
    assert "must be chance" in ls.controls([score(0, 0.9)], [control("prompt", 0.8)])["leak"]


def test_what_is_read_marks_what_was_captured():
    made = ls.reading("last", "mlp", lambda pooling, site: (pooling, site) == ("last", "block"))
    assert made["words"] == "Last token, MLP output"
    assert [key for key, _, _, captured in made["sites"] if captured] == ["block"]
    assert not any(captured for *_, captured in made["poolings"]), "at this site none"
    assert [key for key, *_ in made["poolings"]] == ["mean", "last", "predicting", "difference"]
