"""Draw docs/picture.svg, the README's picture, from the records of a local run: `python scripts/picture.py [PROJECT]`.

PROJECT, by default what `make demo` leaves in build/my-model, has a champion and a later candidate. In the picture they
come from `sagegate run --set max_depth=2`, `sagegate approve 1 --reason "first model"` and `sagegate run --no-cache`.

The picture is one file for both themes, on a background of its own. GitHub's `<picture>` with a file for each theme
follows the theme of the system rather than GitHub's in its new repository pages (GitHub community discussion 210469),
and this file can be read wherever the two differ.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

from clean_copy import ROOT

from sagegate.files import Json
from sagegate.registry.evaluation import evaluation_of_steps
from sagegate.runs.executions import execution_definition, execution_steps, latest_executions
from sagegate.session import open_session

PICTURE = ROOT / "docs" / "picture.svg"
WIDTH, EDGE = 560, 12  # units; few, so that 13 of them are text that can be read on a phone
SHOWN = 700  # pixels, where there is room
BOX, HEIGHT, GAP = 100, 64, 9
LONGEST = 12  # characters of a name that fit into a box
STYLE = """
text { font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #59636e }
.name, .title { font-weight: 600; fill: #1f2328 }
.name, .title { font-size: 13.5px }
.mid { text-anchor: middle }
.page { fill: #ffffff; stroke: #d1d9e0 }
.box { fill: #f6f8fa; stroke: #818b98 }
.ok { fill: #dafbe1; stroke: #1a7f37 }
.bad { fill: #ffebe9; stroke: #cf222e }
.off { stroke-dasharray: 4 3 }
.line { fill: none; stroke: #818b98; stroke-width: 1.5 }
.head { fill: #818b98 }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.name, .title { fill: #f0f6fc }
.page { fill: #0d1117; stroke: #3d444d }
.box { fill: #151b23; stroke: #656c76 }
.ok { fill: #12261e; stroke: #3fb950 }
.bad { fill: #25171c; stroke: #f85149 }
}
"""


def picture(definition: Json, steps: list[Json], gate: Json) -> str:
    """Return the picture of an execution: its definition, its steps as SageMaker lists them, the gate's numbers."""
    ran = {step["StepName"]: step for step in steps}
    condition = next(body for body in definition["Steps"] if body["Type"] == "Condition")
    row = [*definition["Steps"], *condition["Arguments"]["IfSteps"]]
    other = condition["Arguments"]["ElseSteps"]
    gate_at = row.index(condition)
    parts = [label(EDGE, 34, "sagegate run: the same definition on a laptop and on SageMaker", "title")]
    parts += [box(place, 50, body, ran.get(body["Name"])) for place, body in enumerate(row)]
    parts += [arrow(f"M{left(place) - GAP} 82h{GAP - 5}") for place in range(1, len(row))]
    for number, body in enumerate(other):
        parts += [box(gate_at, 142 + number * (HEIGHT + 28), body, ran.get(body["Name"]))]
        parts += [arrow(f"M{left(gate_at) + BOX / 2} {114 + number * (HEIGHT + 28)}v22")]
    parts += [label(EDGE, 160 + number * 20, line) for number, line in enumerate(gate_lines(gate))]

    low = 142 + len(other) * (HEIGHT + 28) + 72
    last, first = left(len(row) - 1) + BOX / 2, left(0) + BOX / 2
    parts += [arrow(f"M{last} 114V{low - 58}H{first}V{low - 6}")]
    parts += [label(EDGE + BOX / 2 + 12, low - 18, "Promotion: a reviewed pull request for each environment", "title")]
    arn = next((s["Metadata"]["RegisterModel"]["Arn"] for s in steps if "RegisterModel" in s.get("Metadata", {})), "")
    live = ("canary,", "smoke test")
    stages = [
        (f"model {arn.rpartition('/')[2]}", ("registered,", "not yet live")),
        ("pull request", ("approval by", "its merge")),
        ("staging", live),
        ("pull request", ("if healthy;", "merge deploys")),
        ("prod", live),
    ]
    for place, (name, lines) in enumerate(stages):
        parts += [drawn_box(place, low, name, lines, "box", name)]
        parts += [arrow(f"M{left(place) - GAP} {low + 32}h{GAP - 5}")] if place else []
    end = "An alarm, a failed smoke test or a revert brings the previous model back."
    parts += [label(EDGE, low + HEIGHT + 28, end)]
    height = low + HEIGHT + 46
    size = f'width="{SHOWN}" height="{height * SHOWN // WIDTH}" viewBox="0 0 {WIDTH} {height}"'
    title = f"A pipeline of {len(row) + len(other)} steps with a gate, then promotion to staging and prod"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{title}</title><style>{STYLE}</style>\n'
        '<defs><marker id="head" markerWidth="6" markerHeight="6" refX="1" refY="3" orient="auto">'
        '<path class="head" d="M0 0L5 3L0 6z"/></marker></defs>\n'
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def gate_lines(gate: Json) -> list[str]:
    """Return the gate's numbers as lines beside it."""
    metric, confidence = gate["metric"], gate["confidence"] * 100
    lines = [f"The gate: {metric} {gate['candidate']:.4f}, threshold {gate['threshold']:g}"]
    if gate["champion"] is None:
        return [*lines, "no champion yet"]
    lowest, allowed = gate["lowest_improvement"], gate["min_improvement"]
    return [
        *lines,
        f"Champion v{gate['champion_version']} on the same rows: {gate['champion']:.4f}",
        f"Improvement, with {confidence:g} % confidence:",
        f"at least {lowest:+.4f}; it asks for {allowed:+g}",
    ]


def left(place: int) -> float:
    """Return the left edge of the box at a place of a row."""
    return EDGE + place * (BOX + GAP)


def box(place: int, top: float, body: Json, step: Json | None) -> str:
    """Return a step's box: name, type, and how long it took or that it did not run."""
    name, kind = body["Name"], body["Type"]
    if step is None:
        return drawn_box(place, top, name, (kind, "not reached"), "box off", name)
    seconds = (step["EndTime"] - step["StartTime"]).total_seconds()
    style = "ok" if step["StepStatus"] == "Succeeded" else "bad"
    return drawn_box(place, top, name, (kind, f"{seconds:.2f} s"), style, f"{name}: {step['StepStatus']}")


def drawn_box(place: int, top: float, name: str, lines: tuple[str, str], style: str, title: str) -> str:
    """Return a box with a name and two lines; the title has the whole name if it is too long for the box."""
    x, middle = left(place), left(place) + BOX / 2
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    texts = [label(middle, top + 21, short, "name mid")]
    texts += [label(middle, top + 39 + number * 16, line, "mid") for number, line in enumerate(lines)]
    shape = f'<rect class="{style}" x="{x:g}" y="{top:g}" width="{BOX}" height="{HEIGHT}" rx="6"/>'
    return f"<g><title>{escape(title)}</title>{shape}{''.join(texts)}</g>"


def label(x: float, y: float, text: str, style: str = "plain") -> str:
    """Return a line of text."""
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def arrow(path: str) -> str:
    """Return an arrow along a path."""
    return f'<path class="line" marker-end="url(#head)" d="{path}"/>'


def main(project: Path) -> None:
    """Draw the latest execution of a project."""
    session = open_session(project, "local")
    try:
        latest = latest_executions(session, 1)
        if not latest:
            sys.exit(f"{project}: nothing has run there: `make demo`, then this again")
        arn = latest[0]["PipelineExecutionArn"]
        definition, steps = execution_definition(session, arn), execution_steps(session, arn)
        evaluation = evaluation_of_steps(session, definition, steps)
        if evaluation is None:
            sys.exit(f"{project}: execution {arn.rpartition('/')[2]} has no evaluation: run the pipeline again")
        PICTURE.write_text(picture(definition, steps, evaluation.gate), encoding="utf-8")
    finally:
        session.close()
    print(f"{PICTURE.relative_to(ROOT)}: execution {arn.rpartition('/')[2]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "my-model")
