"""Documents name what there is: links, modules, layers and the list of decisions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layering import LAYERS, PACKAGE

ROOT = PACKAGE.parent
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
DECISIONS = ROOT / "docs" / "decisions"
PAGES = sorted(DECISIONS.glob("[0-9]*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OF_THE_CODE = [ARCHITECTURE, ROOT / "CONTRIBUTING.md", *PAGES]
SOURCES = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
_FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", document.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def quoted(document: Path) -> set[str]:
    """What stands in backticks, outside of blocks of code."""
    return set(re.findall(r"`([^`\n]+)`", _FENCED.sub("", document.read_text())))


def members(name: str) -> Iterator[str]:
    """The names that each class ``name`` of the package defines or assigns."""
    for source in SOURCES.values():
        if f"class {name}" in source:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.ClassDef) and node.name == name:
                    yield from re.findall(r"\w+", ast.unparse(node))


def test_there_are_documents() -> None:
    assert len(PAGES) > 20
    assert ROOT / "README.md" in DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in _LINK.findall(_FENCED.sub("", document.read_text())):
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("document", OF_THE_CODE, ids=name_of)
def test_modules_and_members_that_are_named_are_there(document: Path) -> None:
    for name in quoted(document):
        if re.fullmatch(r"[\w/]+\.py|[a-z_]+/(?:[a-z_]+/)*", name):
            assert (PACKAGE / name).exists() or (ROOT / name).exists(), name
        elif match := re.fullmatch(r"([A-Z]\w+)\.(\w+)", name):
            assert match[2] in set(members(match[1])), name


def test_the_table_of_layers_is_the_tests() -> None:
    rows = re.findall(r"^\| (`.+) \| .+ \| (.+) \|$", _section("Layers"), re.MULTILINE)
    seen: set[str] = set()
    for names, allowed in rows:
        layers = {re.sub(r"/|\.py", "", name) for name in re.findall(r"`([^`]+)`", names)}
        seen |= layers
        if allowed != "everything":
            imported = set().union(*(LAYERS[layer] for layer in layers)) - layers
            assert set(allowed.replace("–", "").split()) == imported, names
    assert seen == set(LAYERS)


def test_each_package_states_its_law() -> None:
    for package in PACKAGE.rglob("__init__.py"):
        if package.parent != PACKAGE:
            law = ast.get_docstring(ast.parse(package.read_text())) or ""
            assert len(law.splitlines()) >= 3, package


def test_both_lists_of_decisions_have_all_pages() -> None:
    titles = [(page.name, page.read_text().splitlines()[0].removeprefix("# ")) for page in PAGES]
    of_architecture = re.findall(
        r"^- \[(.+)\]\(docs/decisions/(.+)\)$", _section("Decisions"), re.M
    )
    of_index = re.findall(r"^- \[(.+)\]\((.+)\)$", (DECISIONS / "README.md").read_text(), re.M)
    assert [(name, title) for title, name in of_architecture] == titles
    assert [(name, title) for title, name in of_index] == titles


def test_decisions_have_the_numbers_of_their_files() -> None:
    numbers = [int(page.name[:4]) for page in PAGES]
    assert len(numbers) == len(set(numbers))
    for number, page in zip(numbers, PAGES, strict=True):
        assert page.read_text().startswith(f"# {number}. "), page.name


def _section(title: str) -> str:
    return ARCHITECTURE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
