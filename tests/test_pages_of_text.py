"""README, TEACHING and the datasheets: links inside the repository lead somewhere."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [
    path
    for folder in ("", "notebooks", "data", "data/*", "data/*/*")
    for path in sorted(PROJECT.glob(f"{folder}/*.md" if folder else "*.md"))
]
MAX_IMAGE = 300_000


def _anchors(text: str) -> set[str]:
    """Names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", h.lower()) for h in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def _links(text: str) -> list[tuple[bool, str, str]]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", text)
    return [(bool(mark), label, target) for mark, label, target in found]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _problems(page: Path) -> list[str]:
    text, found = page.read_text(encoding="utf-8"), []
    for image, label, target in _links(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page if not name else page.parent / name
        if not path.exists():
            found.append(f"{target} leads nowhere")
        elif anchor and path.suffix == ".md" and anchor not in _anchors(_read(path)):
            found.append(f"{target}: no such heading")
        if image and len(label) < 20:
            found.append(f"picture {target} has no alternative text")
        if image and path.is_file() and path.stat().st_size > MAX_IMAGE:
            found.append(f"picture {target} has more than {MAX_IMAGE} bytes")
    if match := re.search(r"(?<![\w./~-])/(?:home|root|Users|work|tmp)/\w+", text):
        found.append(f"names a place on a machine: {match[0]}")
    return found


def test_the_pages_that_matter_are_among_them():
    names = {page.relative_to(PROJECT).as_posix() for page in PAGES}
    assert {"README.md", "notebooks/TEACHING.md", "data/emosynth/README.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_links_and_pictures_of_a_page(page):
    assert _problems(page) == []


def test_each_fault_is_noticed(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# One thing: *x*\n[a](b.md) [c](#one-thing-x) [d](#two) ![](a.md)")
    assert _problems(page) == [
        "b.md leads nowhere",
        "#two: no such heading",
        "picture a.md has no alternative text",
    ]


def test_every_exercise_and_every_lesson_is_in_the_guide_for_teachers():
    text = (PROJECT / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")
    for lesson in range(7):
        assert re.search(rf"\| 0{lesson} \|", text)
        assert f"0{lesson}.1" in text
    for command in ("make student", "make slides"):
        assert command in text
        target = command.split()[1]
        assert f"\n{target}:" in (PROJECT / "Makefile").read_text(encoding="utf-8")
