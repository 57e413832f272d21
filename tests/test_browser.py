"""A real browser runs every lesson, and uses every widget as a person would."""

import io
import random
import re
import time

import nbformat
import numpy as np
import pytest
import soundfile
from browser import SCREENSHOTS, open_browser, open_lab

from clepdg_lib.corpora import load_corpus
from clepdg_lib.course.lesson import LESSONS
from clepdg_lib.widgets.contexts import ALL
from clepdg_lib.widgets.places import OWN
from course import NOTEBOOKS

SECONDS = 900  # for one lesson on a busy machine
STATE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const kernel = panel?.sessionContext?.session?.kernel;
    if (!kernel || !panel.content?.model) return null;
    const code = [...panel.content.model.cells].filter(c => c.type === 'code');
    const errors = code.flatMap(c => c.outputs.toJSON())
        .filter(o => o.output_type === 'error').map(o => `${o.ename}: ${o.evalue}`);
    return {status: kernel.status, errors, n: code.length,
        ran: code.filter(c => c.executionCount !== null).length};
}"""
SHUT_DOWN = "() => jupyterapp.shell.currentWidget.sessionContext.shutdown()"
RUN_CELLS = """async (numbers) => {
    for (const number of numbers) {
        jupyterapp.shell.currentWidget.content.activeCellIndex = number;
        await jupyterapp.commands.execute('notebook:run-cell');
    }
}"""
RECORD_WEBM = """async () => {
    const stream = await navigator.mediaDevices.getUserMedia({audio: true});
    const recorder = new MediaRecorder(stream);
    recorder.start();
    setTimeout(() => recorder.stop(), 2000);
    const {data} = await new Promise(done => { recorder.ondataavailable = done; });
    return [...new Uint8Array(await data.arrayBuffer())];
}"""
# Small, and what no lesson's cells need to hold.
WIDGETS = """import numpy as np
from clepdg_lib import *
from clepdg_lib import acpt
from clepdg_lib.evaluation.real_speech import load_features
from clepdg_lib.widgets import *
clap, clep = load_clap("clap-mini"), load_clap("clep-mini")
corpus = load_corpus("emosynth").select(domains="studio")
embedded = embed_corpus(clap, corpus)
classifier = fit_text_classifier(clap)
clips = load_features("pairs")
clips = clips.take(np.arange(0, len(clips), 100))
G = acpt.fit_place_map(acpt.text_shifts(clap, clips.clips["caption"]), clips.clean,
    clips.features)
sets = {"tuned": acpt.contexts_from_words(clap, clips.clips["caption"][:4]),
    "random": random_contexts(clap, n_contexts=4)}
spaces = {"CLAP": embedded, "CLEP": embedded.embedded_by(clep)}
explore_prompts(clap, embedded)
---
mix_environments(corpus.read(0), clap=clep, classifiers=classifier,
    describe={"in a hall": clap}.get, background=spaces["CLEP"])
---
view_contexts(clap, sets, clips=clips, place_map=G, classifier=classifier)
---
explore_embeddings(spaces)
---
try_your_voice(clep, classifier, background=spaces["CLEP"])"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on copies of all lessons, without outputs, and on all widgets."""
    folder = tmp_path_factory.mktemp("lessons")
    notebooks = {n: nbformat.read(NOTEBOOKS / f"{n}.ipynb", 4) for n in LESSONS}
    cells = map(nbformat.v4.new_code_cell, WIDGETS.split("\n---\n"))
    metadata = notebooks["00_welcome"].metadata
    notebooks["widgets"] = nbformat.v4.new_notebook(cells=[*cells], metadata=metadata)
    for name, notebook in notebooks.items():
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
    """Open a notebook, choose Run All Cells in the menu, wait until it has run."""
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


def type_into(box, label, text):
    field = box.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Enter")


def slide(box, label, expect):
    """Move a slider by one step; the picture changes."""
    image = box.get_by_role("img").first
    before = image.get_attribute("src")
    slider = box.locator(".widget-hslider", has_text=label)
    slider.get_by_role("slider").press("ArrowRight")
    expect(image).not_to_have_attribute("src", before)


def drive_prompts(page, expect):
    box = output_of(page.get_by_label("compare with", exact=True))
    type_into(box, "prompt", "a man's voice over the telephone")
    type_into(box, "compare with", "this person is feeling sad")
    type_into(box, "one more emotion", "bored")
    for text in ("a man's voice over", "are near both", "Clips nearer to bored"):
        expect(box).to_contain_text(text)
    box.get_by_role("button", name="Copy as code").click()
    expect(box.locator("pre")).to_contain_text("emotion='bored'")
    return box


def drive_places(page, expect):
    place = page.get_by_label("place", exact=True)
    box = output_of(place)
    image = box.get_by_role("img").first
    for choice in ("hall", OWN):
        before = image.get_attribute("src")
        place.select_option(choice)
        expect(image).not_to_have_attribute("src", before)
    slide(box, "echo", expect)
    type_into(box, "you will use it", "in a hall")
    expect(box).to_contain_text("placed, described: in a hall")
    return box


def drive_contexts(page, expect):
    contexts = page.get_by_label("contexts", exact=True)
    box = output_of(contexts)
    expect(contexts).to_have_value(ALL)
    expect(box.get_by_role("heading")).to_have_text(["tuned", "random"])
    expect(box).to_contain_text("in its place")
    contexts.select_option("tuned")
    slide(box, "number", expect)
    return box


def drive_map(page, expect):
    colour = page.get_by_label("colour", exact=True)
    box = output_of(colour)
    colour.select_option("sex")
    expect(box).to_contain_text("has the same sex")
    box.get_by_label("beside", exact=True).select_option("CLEP")
    maps, picked = box.locator("figure canvas"), box.get_by_label("pick", exact=True)
    expect(maps).to_have_count(2)
    maps.first.press("ArrowRight")
    expect(picked).to_have_value("1")
    size = maps.first.bounding_box()
    for x in np.arange(0.1, 0.9, 0.02):  # somewhere there is a point
        maps.first.click(position={"x": x * size["width"], "y": size["height"] / 2})
    expect(picked).not_to_have_value("1")
    expect(box.locator("audio")).to_have_count(4)  # by map: the clip, the nearest one
    size = maps.first.bounding_box()
    for i, (x, y) in enumerate([(0.02, 0.02), (0.6, 0.02), (0.6, 0.98), (0.02, 0.98)]):
        corner = size["x"] + x * size["width"], size["y"] + y * size["height"]
        page.mouse.move(*corner, steps=5)
        if i == 0:
            page.mouse.down()
    page.mouse.up()
    expect(box).to_contain_text("clips in the lasso")
    return box


def drive_voice(page, expect):
    box = output_of(page.get_by_label("sound file"))
    record = box.get_by_role("button", name="● Record")
    page.context.clear_permissions()
    record.click()
    expect(box.get_by_role("alert")).to_contain_text("did not allow the microphone")
    page.context.grant_permissions(["microphone"])
    for take, seconds in (("take 1", 5), ("take 2", 3)):
        record.click()
        stop = box.get_by_role("button", name="■ Stop")
        expect(stop).to_be_visible()
        time.sleep(seconds)
        stop.click()
        expect(box.locator("figcaption").last).to_have_text(take)
    expect(box).to_contain_text("Probability of each emotion")
    silence, voice = np.zeros(16_000 * 2_400), load_corpus("emosynth").read(5).numpy()
    webm, film = bytes(page.evaluate(RECORD_WEBM)), b"\0\0\0\x18ftypmp42" + bytes(900)
    for name, content, answer in (
        ("me.mp3", voice, "me.mp3"),
        ("me.webm", webm, "me.webm"),
        ("long.flac", silence, "long.flac is 40 minutes long"),
        ("silent.wav", silence[:16_000], "silent.wav is silent"),
        ("notes.wav", b"no sound", "notes.wav cannot be read"),
        ("empty.wav", b"", "empty.wav is empty"),
        ("film.mp4", film, "ffmpeg -i FILE"),
    ):
        if isinstance(content, np.ndarray):
            file = io.BytesIO()
            soundfile.write(file, content, 16_000, format=name.split(".")[1].upper())
            content = file.getvalue()
        file = {"name": name, "mimeType": "", "buffer": content}
        box.get_by_label("sound file").set_input_files([file])
        expect(box).to_contain_text(answer)
    expect(box.locator("figcaption")).to_have_text("me.webm")
    assert page.get_by_text("Traceback").count() == 0
    return box


DRIVES = (drive_prompts, drive_places, drive_contexts, drive_map, drive_voice)


@pytest.fixture
def requests(lab):
    """What the page asks for, of whom."""
    page, asked = lab[0], []
    page.on("request", lambda request: asked.append(request.url))
    yield asked
    assert asked and not [
        u for u in asked if not re.match(r"http://127|data:|blob:", u)
    ]


def test_every_widget_answers(lab, requests):
    from playwright.sync_api import expect

    expect.set_options(timeout=90_000)
    page, address = lab
    assert run_all(page, address, "widgets")["errors"] == []
    for drive in DRIVES:
        name = drive.__name__.removeprefix("drive_")
        drive(page, expect).screenshot(path=SCREENSHOTS / f"{name}.png")
    page.evaluate(SHUT_DOWN)


def check_lesson(lab, name):
    """Run it, and once more, in a drawn order, the cells that it invites to edit."""
    page, address = lab
    state = run_all(page, address, name)
    assert state["errors"] == []
    assert state["ran"] == state["n"]
    assert page.get_by_text("Error displaying widget").count() == 0
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
    edited = [i for i, c in enumerate(cells) if "edit" in c.metadata.get("tags", ())]
    assert edited
    random.Random(0).shuffle(edited)
    page.evaluate(RUN_CELLS, edited)
    assert page.evaluate(STATE)["errors"] == []
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
    page.evaluate(SHUT_DOWN)


# Lessons without a widget are the same here as in nbval.
PLAIN = ("00_welcome", "02_finetune_clep")
NAMES = [pytest.param(n, marks=[pytest.mark.slow] * (n in PLAIN)) for n in LESSONS]


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_lesson_runs_in_a_browser_and_its_cells_in_any_order(lab, requests, name):
    check_lesson(lab, name)


class TestLastLessons:  # of a scope of their own, so that two workers share them all
    @pytest.mark.parametrize("name", NAMES[4:])
    def test_the_same(self, lab, requests, name):
        check_lesson(lab, name)
