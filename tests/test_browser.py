"""A real browser opens every lesson, runs it, and plays with its widgets."""

import io
import re
import time

import nbformat
import pytest
import soundfile
from browser import SCREENSHOTS, open_browser, open_lab

from clepdg_lib.corpora import load_corpus
from clepdg_lib.course.lesson import LESSONS
from clepdg_lib.widgets.places import OWN
from course import NOTEBOOKS

SECONDS = 900  # for one lesson on a busy machine
STATE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const kernel = panel?.sessionContext?.session?.kernel;
    if (!kernel || !panel.content?.model) return null;
    const code = [...panel.content.model.cells].filter(c => c.type === 'code');
    const errors = [];
    for (const cell of code)
        for (let i = 0; i < cell.outputs.length; i++) {
            const output = cell.outputs.get(i).toJSON();
            if (output.output_type === 'error')
                errors.push(`${output.ename}: ${output.evalue}`);
        }
    return {status: kernel.status, errors, n: code.length,
        ran: code.filter(c => c.executionCount !== null).length};
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on copies of all lessons, their outputs taken out."""
    folder = tmp_path_factory.mktemp("lessons")
    for name in LESSONS:
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / f"{name}.ipynb")
    with open_browser() as page:
        settings = tmp_path_factory.mktemp("settings")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        with open_lab(folder, settings) as address:
            yield page, address


def run_all(page, address, name):
    """Open a lesson, choose Run All Cells in the menu, wait until it has run."""
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset")
    ready = f"() => {{ const s = ({STATE})(); return s && s.status === 'idle'; }}"
    page.wait_for_function(ready, timeout=120_000)
    page.locator("#jp-MainMenu").get_by_text("Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        state = page.evaluate(STATE)
        done = state["ran"] == state["n"] and state["status"] == "idle"
        if state["errors"] or done:
            return state
        time.sleep(0.5)
    raise TimeoutError(f"{name}: {state} after {SECONDS} s")


def output_of(locator):
    """The whole output area that a widget's part lies in, in view."""
    locator.scroll_into_view_if_needed()
    area = "xpath=ancestor::*[contains(@class,'jp-OutputArea-child')]"
    return locator.locator(area).last


def drive_prompts(page, expect):
    prompt = page.get_by_label("prompt", exact=True)
    box = output_of(prompt)
    prompt.fill("a man's voice over the telephone")
    prompt.press("Enter")
    expect(box).to_contain_text("a man's voice over the telephone")
    other = box.get_by_label("compare with", exact=True)
    other.fill("this person is feeling sad")
    other.press("Enter")
    expect(box).to_contain_text("this person is feeling sad")
    expect(box.locator("table").first).to_be_visible()
    return box


def drive_mixer(page, expect):
    place = page.get_by_label("place", exact=True)
    box = output_of(place)
    image = box.get_by_role("img").first
    for choice in ("hall", OWN):
        before = image.get_attribute("src")
        place.select_option(choice)
        expect(image).not_to_have_attribute("src", before)
    before = image.get_attribute("src")
    slider = box.locator(".widget-hslider", has_text="echo")
    slider.get_by_role("slider").press("ArrowRight")
    expect(image).not_to_have_attribute("src", before)
    expect(box).to_contain_text("placed")
    return box


def drive_contexts(page, expect):
    slider = page.locator(".widget-hslider", has_text="number")
    box = output_of(slider)
    image = box.get_by_role("img").first
    before = image.get_attribute("src")
    slider.get_by_role("slider").press("ArrowRight")
    expect(image).not_to_have_attribute("src", before)
    return box


def drive_explorer(page, expect):
    colour = page.get_by_label("colour", exact=True)
    box = output_of(colour)
    colour.select_option("sex")
    image = box.get_by_role("img").first
    expect(image).to_have_attribute("alt", re.compile("has the same sex"))
    pick = box.get_by_label("pick", exact=True)
    pick.fill("5")
    pick.press("Enter")
    expect(box).to_contain_text("The picked clip, and the nearest clip")
    return box


def drive_voice(page, expect):
    button = page.get_by_role("button", name=re.compile(r"recording \("))
    box = output_of(button)
    wave = io.BytesIO()
    soundfile.write(wave, load_corpus("emosynth").read(5).numpy(), 16_000, format="MP3")
    bad = ("notes.wav", b"no sound", "notes.wav")
    good = ("me.mp3", wave.getvalue(), "Probability of each emotion")
    for name, content, answer in (bad, good):
        with page.expect_file_chooser() as chooser:
            button.click()
        file = {"name": name, "mimeType": "audio/mpeg", "buffer": content}
        chooser.value.set_files([file])
        expect(box).to_contain_text(answer)
    expect(box.locator("audio").first).to_be_visible()
    return box


DRIVES = {
    "01_probe_clap": drive_prompts,
    "03_tune_acoustic_contexts": drive_contexts,
    "04_transfer_across_modalities": drive_mixer,
    "05_generalise_across_domains": drive_explorer,
    "06_scale_up": drive_voice,
}


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_in_a_browser_and_its_widget_answers(lab, name):
    from playwright.sync_api import expect

    expect.set_options(timeout=90_000)
    page, address = lab
    state = run_all(page, address, name)
    assert state["errors"] == []
    assert state["ran"] == state["n"]
    assert page.get_by_text("Error displaying widget").count() == 0
    shown = DRIVES[name](page, expect) if name in DRIVES else page
    shown.screenshot(path=SCREENSHOTS / f"{name}.png")
    page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
    )
