"""The settings column of step 3 in a browser: presets, nonsense, the way back, and settings as a file."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser import browser, overflow, page, server  # noqa: F401
from tests.test_page_align import ready, unfold  # noqa: F401
from workbench.rahf.config import RunConfig


def test_a_preset_is_changed_refused_saved_loaded_and_taken_back(ready, tmp_path):  # noqa: F811
    page = ready  # noqa: F811
    column, start = page.locator("#rw-settings"), page.get_by_role("button", name="Start SCIT")
    preset, steps = page.get_by_label("Preset", exact=True), page.get_by_label("Steps of stage 3", exact=True)
    expect(start).to_be_enabled()
    expect(page.locator("#rw-outlook dl")).to_contain_text("Memory, at its peak")
    names = page.evaluate("[...document.querySelectorAll('[id^=rw-]')].map((node) => node.id)")
    assert sorted(names) == sorted(set(names))  # a name is one place

    # A preset whose blocks this model does not have: one sentence, a way out, and nothing typed is lost.
    unfold(page)
    steps.fill("33")
    steps.press("Tab")
    expect(column).to_contain_text("1 changed")
    preset.select_option("paper-scit")
    expect(page.locator("#rw-bad-layers")).to_contain_text("The model has blocks 0 to 7")
    expect(start).to_be_disabled()
    page.get_by_role("button", name="Use blocks 2 and 3 of step 2").click()
    expect(page.locator("#rw-bad-layers")).to_have_count(0)
    expect(page.get_by_role("radio", name="Set alpha by hand")).to_be_checked()
    page.locator("#rw-outlook").get_by_role("button", name="Alpha").click()
    expect(page.get_by_label("Strength, alpha", exact=True)).to_be_focused()
    page.get_by_role("button", name=re.compile("Undo: preset")).click()
    expect(steps).to_have_value("33")
    expect(start).to_be_enabled()

    # Nonsense stands at its field and survives a reload; the way back is one click.
    steps.fill("plenty")
    steps.press("Tab")
    expect(page.locator("#rw-bad-align_steps")).to_contain_text("must be a whole number, not 'plenty'")
    expect(start).to_be_disabled()
    page.reload()
    expect(steps).to_have_value("plenty")
    expect(steps).to_be_visible()  # what is wrong is not folded away
    page.locator("#rw-why").get_by_role("button", name="Show it").click()
    expect(steps).to_be_focused()
    page.get_by_role("button", name="Back to 200: Steps of stage 3").click()
    expect(steps).to_have_value("200")
    expect(start).to_be_enabled()
    unfold(page)

    # Texts of one's own are no value's, though the list had no name for them before.
    instructions, positive = page.get_by_label("Instructions for"), page.get_by_role("textbox", name="Instruction p+")
    instructions.select_option("polite")
    expect(positive).to_have_value(re.compile("polite"))
    positive.fill("You are mine.")
    positive.press("Tab")
    expect(instructions).to_have_value("own")
    instructions.select_option("general")
    expect(positive).to_have_value(re.compile("people prefer"))

    # Several choices in a row: an answer to an earlier one takes none of them back.
    page.get_by_role("radio", name="Aim at a relative strength").check()
    page.get_by_role("radio", name="Dual").check()
    page.get_by_label("Stop when answers fall apart").uncheck()
    expect(page.get_by_label("Instruction p+")).to_be_disabled()
    expect(column).to_contain_text("Not used: Dual gives no instructions")
    steps.fill("44")
    steps.press("Tab")
    expect(page.get_by_role("button", name="Back to 200: Steps of stage 3")).to_be_visible()

    with page.expect_download() as arriving:
        page.get_by_role("button", name="Save settings").click()
    saved = tmp_path / arriving.value.suggested_filename
    arriving.value.save_as(saved)
    config = RunConfig.from_yaml(saved)
    assert (config.method, config.align_steps, config.relative_strength, config.layers) == ("dual", 44, 0.3, (2, 3))

    column.get_by_role("button", name="Back to the preset").first.click()
    expect(page.get_by_role("radio", name="SCIT")).to_be_checked()
    saved.write_text("model: /etc/passwd\n" + saved.read_text().replace("model: demo", "", 1))
    load(page, saved)
    expect(column).to_contain_text("Model and pairs stay as chosen on this page")
    expect(steps).to_have_value("44")
    expect(page.get_by_role("radio", name="Dual")).to_be_checked()
    bad = tmp_path / "bad.yaml"
    bad.write_text("align_step: 3\n")
    load(page, bad)
    expect(page.locator("#rw-error")).to_contain_text("there is no setting 'align_step'; do you mean align_steps?")
    expect(steps).to_have_value("44")

    # Whoever goes by keys sees where they are, also on what is no field of text.
    ring = "node => getComputedStyle(node).outlineStyle"
    page.get_by_role("radio", name="Aim at a relative strength").focus()
    page.keyboard.press("ArrowUp")
    assert page.get_by_role("radio", name="Calibrated").evaluate(ring) == "solid"
    unfold(page)
    tick = page.locator("#rw-set-stop_on_collapse")
    tick.focus()
    page.keyboard.press("Shift")
    assert tick.evaluate(ring) == "solid"

    page.set_viewport_size({"width": 390, "height": 844})
    assert overflow(page) <= 0
    inside = "boxes => boxes.every(box => box.scrollWidth <= box.clientWidth + 1)"
    assert column.locator(".field").evaluate_all(inside)


def load(page, path):  # noqa: F811
    with page.expect_file_chooser() as choosing:
        page.locator("#rw-settings").get_by_role("button", name="Load settings", exact=True).click()
    choosing.value.set_files(path)
