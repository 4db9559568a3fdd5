"""The README: its picture has the template's steps, its table the workflows, and links lead to files."""

import copy
import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clean_copy import ROOT, tracked_files
from picture import PICTURE, picture

SVG = "{http://www.w3.org/2000/svg}"
PROJECT = ROOT / "{{cookiecutter.project_slug}}"
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOSTILE = "]]></style><script>alert(1)</script>\" onload='x"
GATE = {"metric": "<b>", "candidate": 0.9, "threshold": 0.8, "confidence": 0.95, "champion": None}


def definition() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PROJECT / "pipeline" / "definition.json").read_text(encoding="utf-8"))
    return found


def all_steps(body: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [s for step in body["Steps"] for key in ("IfSteps", "ElseSteps") for s in step["Arguments"].get(key, [])]
    return [*body["Steps"], *inner]


def parts(text: str) -> tuple[list[str], set[str]]:
    """Return the names in the boxes, in full, and the elements of a picture."""
    root = ET.fromstring(text)
    titles = [group.findtext(f"{SVG}title", "").partition(": ")[0] for group in root.iter(f"{SVG}g")]
    return titles, {element.tag.removeprefix(SVG) for element in root.iter()}


def test_the_picture_in_the_readme_names_every_step_of_the_template() -> None:
    names, _ = parts(PICTURE.read_text(encoding="utf-8"))
    stages = ["pull request", "staging", "pull request", "prod"]
    assert names[:-5] == [step["Name"] for step in all_steps(definition())], "run scripts/picture.py"
    assert names[-4:] == stages
    assert f"]({PICTURE.relative_to(ROOT)})" in README


def test_text_from_a_definition_is_text_and_nothing_else() -> None:
    body = copy.deepcopy(definition())
    for step in all_steps(body):
        step["Name"] += HOSTILE
    times = {"StartTime": datetime(2026, 1, 1, tzinfo=UTC), "EndTime": datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)}
    steps = [{"StepName": step["Name"], "StepStatus": "Succeeded", **times} for step in all_steps(body)]
    drawn = picture(body, steps, GATE)
    assert drawn == picture(body, steps, GATE)
    names, elements = parts(drawn)
    assert names[:-5] == [step["Name"] for step in all_steps(body)]
    assert elements == {"svg", "title", "style", "defs", "marker", "path", "rect", "g", "text"}


def test_the_table_of_workflows_has_those_of_the_template() -> None:
    table = README.partition("| Workflow | Trigger |")[2].partition("\n\n")[0]
    named = re.findall(r"(?m)^\| `(\w+)` \|", table)
    assert set(named) == {file.stem for file in (PROJECT / ".github" / "workflows").iterdir()}


def broken_links(page: Path, text: str) -> list[str]:
    """Return the links of a page to files that do not exist."""
    links = re.findall(r"\]\(([^)#:]+)[^):]*\)", text)
    return [link for link in links if not (ROOT / page.parent / link).exists()]


def test_links_between_pages_lead_to_files() -> None:
    pages = [file for file in tracked_files(ROOT) if file.suffix == ".md" and file.parts[0] in ("README.md", "docs")]
    assert len(pages) > 20
    assert [found for page in pages if (found := broken_links(page, (ROOT / page).read_text(encoding="utf-8")))] == []
    assert broken_links(Path("docs/README.md"), "[a](tutorial.md#x) [b](https://a.b/c) [c](nothing.md)") == [
        "nothing.md"
    ]
