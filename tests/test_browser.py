"""A real browser opens every lesson, runs it, and plays with its widgets."""

import io
import re
import time

import nbformat
import pytest
import soundfile
from browser import SCREENSHOTS, open_browser, open_lab

from clepdg_lib.corpora import load_corpus
from clepdg_lib.course import NOTEBOOKS
from clepdg_lib.lesson import LESSONS

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
    menu = page.locator("#jp-MainMenu")
    menu.get_by_text("Run", exact=True).click()
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
    """The whole output area that a widget's part lies in."""
    return locator.locator("xpath=ancestor::*[contains(@class,'jp-OutputArea-child')]")


def keep(name, locator):
    locator.scroll_into_view_if_needed()
    locator.screenshot(path=SCREENSHOTS / f"{name}.png")


def drive_prompts(page, expect):
    prompt = page.get_by_label("prompt", exact=True)
    prompt.scroll_into_view_if_needed()
    box = output_of(prompt).last
    prompt.fill("a man's voice over the telephone")
    prompt.press("Enter")
    expect(box).to_contain_text("Nearest to a man's voice over the telephone")
    box.get_by_label("emotion", exact=True).select_option("sad")
    expect(prompt).to_have_value("this person is feeling sad")
    expect(box).to_contain_text("Nearest to this person is feeling sad")
    box.get_by_label("speaker", exact=True).select_option("a woman")
    expect(box).to_contain_text("person → woman")
    expect(box.locator("audio")).to_have_count(3)
    keep("prompt-explorer", box)


def turn(slider, times):
    handle = slider.get_by_role("slider")
    handle.focus()
    for _ in range(times):
        handle.press("ArrowRight")


def drive_mixer(page, expect):
    slider = page.locator(".widget-hslider", has_text="echo (s)")
    slider.scroll_into_view_if_needed()
    box = output_of(slider).last
    picture = box.get_by_role("img").first
    before = picture.get_attribute("src")
    box.get_by_label("place", exact=True).select_option("hall")
    expect(picture).not_to_have_attribute("src", before)
    before = picture.get_attribute("src")
    turn(slider, 3)
    expect(picture).not_to_have_attribute("src", before)
    expect(box.get_by_label("place", exact=True)).to_have_value("my own mix")
    expect(box.locator("table")).to_contain_text("placed")
    keep("environment-mixer", box)


def drive_contexts(page, expect):
    slider = page.locator(".widget-hslider", has_text="number")
    slider.scroll_into_view_if_needed()
    box = output_of(slider).last
    expect(box).to_contain_text("Context 1 of 16")
    picture = box.get_by_role("img").first
    before = picture.get_attribute("src")
    turn(slider, 2)
    expect(box).to_contain_text("Context 3 of 16")
    expect(picture).not_to_have_attribute("src", before)
    keep("context-viewer", box)


def drive_explorer(page, expect):
    colour = page.get_by_label("colour", exact=True)
    colour.scroll_into_view_if_needed()
    box = output_of(colour).last
    colour.select_option("speaker")
    expect(box).to_contain_text("has the same speaker")
    colour.select_option("domain")
    pick = box.get_by_label("pick clip", exact=True)
    pick.fill("5")
    pick.press("Enter")
    expect(box).to_contain_text("Clip 5, and its neighbour")
    points = box.locator("svg use title")
    assert points.count() > 500
    expect(box.locator("audio")).to_have_count(1)
    keep("embedding-explorer", box)
    page.get_by_label("clips", exact=True).select_option("people, CLAP")
    expect(box.locator("audio")).to_have_count(0)  # no recording of theirs ships
    colour.select_option("corpus")
    expect(box).to_contain_text("has the same corpus")


def drive_voice(page, expect):
    button = page.get_by_role("button", name=re.compile("Choose a recording"))
    button.scroll_into_view_if_needed()
    box = output_of(button).last
    wave = io.BytesIO()
    soundfile.write(wave, load_corpus("emosynth").read(5).numpy(), 16_000, format="MP3")
    for name, content, answer in (
        ("notes.wav", b"no sound", "Not usable: notes.wav cannot be read as audio"),
        ("me.mp3", wave.getvalue(), "me.mp3: "),
    ):
        with page.expect_file_chooser() as chooser:
            button.click()
        file = {"name": name, "mimeType": "audio/mpeg", "buffer": content}
        chooser.value.set_files([file])
        expect(box).to_contain_text(answer)
    expect(box.locator("table")).to_contain_text("with contexts")
    expect(box.locator("audio")).to_have_count(1)
    keep("your-own-voice", box)


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
    if name in DRIVES:
        DRIVES[name](page, expect)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
    page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
    )
