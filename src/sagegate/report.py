"""`sagegate report`: the page that a run's Evaluate wrote, or a small one about an execution that failed."""

from __future__ import annotations

import html
import os
import re
import sys
import webbrowser
from pathlib import Path

from sagegate import output
from sagegate.errors import SagegateError
from sagegate.explain.explain import explain
from sagegate.files import write_atomically
from sagegate.registry.evaluation import REPORT, evaluation_uri, read_report, statistics_uri
from sagegate.registry.models import describe_model
from sagegate.runs.executions import describe_execution, execution_definition, execution_steps, latest_executions
from sagegate.session import Session

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root{{color-scheme:light dark}}
body{{margin:0 auto;max-width:1080px;padding:20px 16px;font:15px/1.45 system-ui,sans-serif}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere}}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<pre>{why}</pre>
</main>
</body>
</html>
"""


def report(session: Session, name: str | None, opens: bool | None) -> None:
    """Write an execution's or a model version's page below .mlops/reports/, print its path, and open it.

    By default the latest execution's. `opens` None means to open it on a terminal that has a browser.
    """
    if name is not None and name.isascii() and name.isdigit() and len(name) < 12:  # an execution's name has 12
        page = read_report(session, statistics_uri(describe_model(session, int(name))))
        what, why = f"model-{name}", f"model {name}"
    else:
        if name is None:
            latest = latest_executions(session, 1)
            if not latest:
                raise SagegateError(f"nothing has run yet: start with `sagegate run{session.option}`")
            name = str(latest[0]["PipelineExecutionArn"])
        execution = describe_execution(session, name)
        arn, status = execution["PipelineExecutionArn"], execution["PipelineExecutionStatus"]
        what = str(arn).rpartition("/")[2]
        uri = evaluation_uri(session, execution_definition(session, arn), execution_steps(session, arn))
        page = read_report(session, uri)
        if page is None and status in ("Failed", "Stopped"):
            page = failure_page(session, what, status)
        why = f"execution {what} ({status})"
    if page is None:
        raise SagegateError(
            f"{why} has no {REPORT}: Evaluate's log says why it was not drawn, or the project's evaluate.py draws none"
        )
    file = session.root / ".mlops" / "reports" / f"{session.environment.name}-{what}.html"
    write_atomically(file, page, sync=False)
    output.line(str(file))
    if opens or (opens is None and _has_browser()):
        webbrowser.open(Path(file).as_uri())


def failure_page(session: Session, name: str, status: str) -> bytes:
    """Return a page about an execution that has no other: what `sagegate explain` says."""
    with output.console.capture() as captured:
        explain(session, name)
    title = f"{status}: execution {name} of {session.names.pipeline}"
    why = re.sub(r"\x1b\[[0-9;]*m", "", captured.get()).strip()
    return PAGE.format(title=_safe(title), why=_safe(why)).encode()


def _safe(text: object) -> str:
    """Return a text as HTML, in which what cannot be seen is shown as such."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return html.escape(shown)


def _has_browser() -> bool:
    """Return True on a terminal of a machine with a desktop, outside CI."""
    desktop = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(sys.stdout.isatty() and desktop and not os.environ.get("CI"))
