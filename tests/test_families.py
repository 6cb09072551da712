"""Every family of the table in the documentation goes through everything a run does; the others are refused."""

import re

import pytest
from families import DOCUMENT, FAMILIES, REFUSED, VERSION, document, refusal, try_out
from transformers import CONFIG_MAPPING


def known(family):
    """Skip what an older transformers does not have."""
    if family.split(" ")[0] not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {family}")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_goes_through_everything_a_run_does(family, tmp_path):
    known(family)
    try_out(family, tmp_path)


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_worked_with_is_refused_in_a_sentence(family, tmp_path):
    known(family)
    said = refusal(family, tmp_path / family)
    assert "\n" not in said
    assert said.endswith(("model.", "attention."))


def test_the_table_in_the_documentation_says_what_is_found():
    written = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!Family|---)([^|]+?) \|", written, re.MULTILINE)
    assert rows == [family.replace(" + ", ", ") for family in FAMILIES] + list(REFUSED)
    if f"with transformers {VERSION}:" in written:  # what a family's defaults are is up to transformers
        assert written == document()
