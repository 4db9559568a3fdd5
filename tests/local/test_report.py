"""The report of an evaluation: a page that harms nobody, whatever the data is named, and the command that shows it."""

import csv
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from clean_copy import ROOT
from conftest import PROBLEM_TYPES, Bake, RunIn
from places import Place, execution

VOID = {"meta", "br", "wbr"}
SHAPES = {"path", "circle", "rect"}
ADDRESSES = {"href", "src", "action", "data", "srcset", "poster", "background", "xlink:href", "formaction", "ping"}
PARTS = ["Metrics", "Predictions", "What the model uses", "Where it is worst", "Data", "How it was made"]
CHARTS = {
    "binary_classification": ["ROC", "Precision and recall", "Calibration"],
    "multiclass_classification": ["ROC", "Precision and recall", "Calibration"],
    "regression": ["Predicted against actual", "Residuals"],
}
WEAK = ("--set", "num_round=2", "--set", "max_depth=1")
HOSTILE = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "ends": "]]></title></style></svg></td><!-- -->",
    "quotes": '" onload="alert(1)\' &amp; &#60;b&#62;',
    "template": "{style} {0} %s ${x} \\",
    "long": "x" * 300,
    "controls": "a\x01b\x1b[31mc\x7fd\x85e",
    "right-to-left": "\u202egnp.exe\u202c \u2067\u05d0\u05d1\u2069",
}


class Page(HTMLParser):
    """A page as a strict reader sees it: tags nest, nothing is loaded, nothing runs."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open
        assert self.tags[:3] == ["html", "head", "meta"] and self.tags.count("h1") == 1
        assert self.tags.count("title") == 1 + self.tags.count("svg"), "each image has a text for screen readers"
        assert self.tags.count("caption") == self.tags.count("table")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"{tag}: an attribute twice"
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form", "img", "image", "use", "a")
        assert not ADDRESSES & given.keys() and not any(name.startswith("on") for name in given), (tag, attrs)
        assert re.fullmatch(r"--share:[0-9.]+", given.get("style") or "--share:0"), attrs
        if tag == "meta" and "http-equiv" in given:
            assert "default-src 'none'" in str(given["content"]) and "script" not in str(given["content"])
        assert tag != "th" or given.get("scope") in ("row", "col")
        assert tag != "svg" or given.get("role") == "img"
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SHAPES, f"<{tag}/> does not end an element of HTML"
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text[tag][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a marked section: {data}")


def checked(file: Path) -> tuple[Page, str]:
    """Return the page in a file, and its text, after what holds for every page."""
    text = file.read_text(encoding="utf-8")
    assert len(text.encode()) < 300_000
    css = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in css and "@import" not in css and "\\" not in css
    assert all(c.isprintable() or c == "\n" for c in text), "an invisible character"
    return Page(text), text


def shown(project: Path, run_in: RunIn, *args: str) -> Path:
    """Return the file that `sagegate report` prints."""
    return Path(run_in(project, "sagegate", "report", *args).stdout.strip())


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_a_page_has_every_part_for_a_first_model_and_beside_a_champion(
    bake: Bake, run_in: RunIn, problem_type: str
) -> None:
    project = bake(problem_type=problem_type)
    run_in(project, "sagegate", "run")
    for said in ("There is no champion yet", "champion v1"):
        page, text = checked(shown(project, run_in))
        assert page.text["h2"] == PARTS and text.index("<h1") < text.index("<h2")
        assert [caption.partition("of ")[0] for caption in page.text["figcaption"]] == CHARTS[problem_type]
        assert said in page.text["main"][0] and "Passed by the gate" in page.text["h1"][0]
        assert "xgboost" in page.text["main"][0] and "num_round" in page.text["main"][0]
        evaluation = json.loads(newest(project, "evaluation.json").read_text())
        table = page.text["table"][0]
        for name, entry in evaluation[f"{problem_type}_metrics"].items():
            if isinstance(entry, dict) and "value" in entry:
                assert name in table and f"{entry['value']:.4g}" in table, name
        run_in(project, "sagegate", "approve", "1", "--reason", "the first")
        run_in(project, "sagegate", "run", "--no-cache")
    assert shown(project, run_in, "1").read_bytes() != shown(project, run_in, "2").read_bytes()
    first, second = (shown(project, run_in, "2").read_bytes() for _ in range(2))
    assert first == second


def newest(project: Path, name: str) -> Path:
    return max((project / ".mlops" / "s3").rglob(name), key=lambda file: file.stat().st_mtime_ns)


def hostile(project: Path) -> None:
    """Give the project categories, classes and columns with names that look like something else."""
    names = list(HOSTILE.values())
    columns = "".join(f"{json.dumps(name)} = {json.dumps(kind)}\n" for name, kind in zip(names, CYCLE, strict=True))
    classes = json.dumps([HOSTILE["markup"], HOSTILE["right-to-left"]])
    target = f"[target]\nname = {json.dumps('<b>' + HOSTILE['ends'])}\nclasses = {classes}\n"
    text = f'problem_type = "binary_classification"\n{target}[columns]\n{columns}'
    (project / "model" / "schema.toml").write_text(text.replace("\x7f", "\\u007F"), encoding="utf-8")
    (old,) = (project / "data").glob("*.csv")
    old.unlink()
    with (project / "data" / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "<b>" + HOSTILE["ends"]])
        for n in range(600):
            cells = [names[n % 7] if kind == "category" else str((n * 7919) % 101) for kind in CYCLE]
            cells[1] = "" if n % 9 == 0 else cells[1]
            writer.writerow([*cells, HOSTILE["markup" if (n * 7919) % 101 < 50 else "right-to-left"]])


CYCLE = ["category", "number", "category", "number", "category", "category", "category"]


@pytest.fixture(scope="module")
def hostile_page(baked: Bake, run_in: RunIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a project with hostile names, beside a champion."""
    project = tmp_path_factory.mktemp("hostile") / "my-model"
    shutil.copytree(baked(), project, ignore=shutil.ignore_patterns(".mlops", "__pycache__"))
    hostile(project)
    run_in(project, "sagegate", "run", "--set", "GateThreshold=0.6")
    run_in(project, "sagegate", "approve", "1", "--reason", "the first")
    run_in(project, "sagegate", "run", "--set", "GateThreshold=0.6", "--set", "max_depth=3")
    return shown(project, run_in)


def test_names_in_the_data_are_text_and_nothing_else(hostile_page: Path) -> None:
    page, _ = checked(hostile_page)
    said = "".join(page.text["main"])
    for whole in (
        "<script>alert(1)</script>",
        "]]></title></style></svg>",
        '" onload="alert(1)\' &amp; &#60;b',
        "{style}",
    ):
        assert whole in said
    assert "x" * 60 not in said and "\N{REPLACEMENT CHARACTER}gnp.exe" in said
    assert page.text["h2"] == PARTS and "svg" in page.tags


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_shows_the_page_without_a_complaint(hostile_page: Path, tmp_path: Path, theme: str) -> None:
    picture = tmp_path / "page.png"
    options = [f"--screenshot={picture}", "--window-size=375,800", "--hide-scrollbars", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--no-sandbox", "--disable-gpu"]
    options += ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    command = [str(BROWSER), "--headless=new", *options, hostile_page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, errors="replace")
    assert "CONSOLE" not in done.stderr and "Refused" not in done.stderr, done.stderr
    content = picture.read_bytes()
    start = content.index(b"IDAT") + 4
    pixel = zlib.decompressobj().decompress(content[start : start + 4096])[1:4]  # the first one has no filter to undo
    assert (sum(pixel) > 600) == (theme == "light"), pixel


def test_a_report_is_shown_whatever_became_of_the_run(place: Place) -> None:
    assert "nothing has run yet" in place.run("report", code=1)
    first = place.run("run")
    assert f"report: sagegate report {execution(first)}" in first
    latest, by_version, by_name = (place.run("report", *each).strip() for each in ([], ["1"], [execution(first)]))
    assert latest == by_name == str(place.project / f".mlops/reports/{place.name}-{execution(first)}.html")
    assert checked(Path(latest))[1] == checked(Path(by_version))[1]
    commands = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / "how-to" / "read-the-report.md").read_text(), re.DOTALL)
    for line in commands[1].splitlines() if commands else [""]:  # what the page on reports says works
        words = line.partition("#")[0].replace("--env dev", "").replace("EXECUTION", execution(first)).split()
        assert words[:3] == ["uv", "run", "sagegate"] and place.run(*words[3:]).strip().endswith(".html"), line
    place.run("approve", "1", "--reason", "the first")

    rejected = place.run("run", *WEAK, code=3)
    page, text = checked(Path(place.run("report", execution(rejected)).strip()))
    assert "Rejected by the gate" in page.text["h1"][0] and "Candidate rejected: auc" in text

    place.edit("model/evaluate.py", "import report ", "import no_report ")
    place.run("run")
    assert "has no report.html: Evaluate's log says why" in place.run("report", code=1)

    place.edit("model/train.py", "def main(", "raise RuntimeError('</pre><script>alert(1)</script>')\n\n\ndef main(")
    failed = place.run("run", code=1)
    page, text = checked(Path(place.run("report").strip()))
    assert page.text["h1"] == [f"Failed: execution {execution(failed)} of my-model"]
    assert "</pre><script>alert(1)</script>" in page.text["pre"][0]
    assert "step Train failed" in page.text["pre"][0]
    for name, message in (("99", "there is no model 99"), ("nonsense", "there is no execution nonsense")):
        said = place.run("report", name, code=1)
        assert message in said and len(said.splitlines()) == 1


IN_PROJECT = """
import numpy as np
import pandas as pd

import data
import drift
import report

ROWS = pd.DataFrame({name: np.random.default_rng(0).normal(size=200) for name in ("age", "other", "more")})
SCHEMA = data.Schema("regression", "target", (), dict.fromkeys(ROWS.columns, "number"), ())


class Repeats:
    estimator, schema, threshold = None, SCHEMA, 0.5

    def predict(self, table):
        return table["age"].to_numpy()


def test_another_model_than_xgboost_is_explained_by_shuffling_columns():
    page = report.contributions(Repeats(), ROWS, ROWS["age"].to_numpy(), "rmse", 1)
    assert page.index(">age<") < page.index(">more<") and page.count("<td>0</td>") == 2


def test_drift_is_what_chance_does_not_explain():
    rng = np.random.default_rng(0)
    tables = {"train": pd.DataFrame({"age": rng.normal(size=1000), "city": "a", "label": "no"})}
    profile = drift.profile(tables, data.Schema("x", "label", ("no",), {"age": "number", "city": "category"}, ()))
    for name, same, other in (
        ("age", rng.normal(size=300), rng.normal(0.6, size=300)),
        ("city", ["a"] * 300, ["a"] * 250 + [None] * 50),
    ):
        known = profile[name]["counts"]["train"], profile[name]["bins"]
        for values, differs in ((same, False), (other, True)):
            size, chance = drift.shift(known[0], drift.count(pd.Series(values), known[1]))
            assert (size > chance) == differs, name
"""


def test_other_models_are_explained_and_drift_is_what_chance_does_not_explain(bake: Bake, run_in: RunIn) -> None:
    """These need no pipeline, so they run as tests of a project."""
    project = bake(problem_type="regression")
    (project / "tests" / "test_more.py").write_text(IN_PROJECT)
    run_in(project, "pytest", "tests/test_more.py")
