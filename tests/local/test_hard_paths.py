"""Scripts with `/opt/ml` in their code: it is mounted on Linux, and only where it is needed."""

import ctypes
import sys
from pathlib import Path

import pytest
from local_lab import BUCKET, Lab

from sagegate.local import namespace

HARD = """
from pathlib import Path
text = Path("/opt/ml/processing/input/data/a").read_text()
Path("/opt/ml/processing/output/out/x.txt").write_text(text)
"""


def test_scripts_with_hard_coded_paths_run(lab: Lab) -> None:
    lab.put("hard/a", "found")
    done = lab.run(lab.processing("Hard", HARD, {"data": f"s3://{BUCKET}/hard"}))
    assert done.status == "Succeeded", done.reason
    assert lab.get(lab.output(done, "Hard") + "/x.txt") == "found"
    assert not Path("/opt/ml/processing").exists()


SHELL = """set -e
command -v pip3 > /dev/null
cd /opt/ml/processing/input/code
python3 main.py "$1" > /opt/ml/processing/output/out/x.txt
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/opt/ml is mounted by Linux namespaces")
def test_shell_scripts_with_hard_coded_paths_run_with_this_python(lab: Lab) -> None:
    step = lab.processing("Shell", "import sys; print(sys.argv[1], sys.prefix)", {"shell": lab.put("run.sh", SHELL)})
    step["Arguments"]["AppSpecification"] |= {
        "ContainerEntrypoint": ["/bin/sh", "/opt/ml/processing/input/shell/run.sh"],
        "ContainerArguments": ["hello"],
    }
    done = lab.run(step)
    assert done.status == "Succeeded", done.reason
    assert lab.get(lab.output(done, "Shell") + "/x.txt").split() == ["hello", sys.prefix]
    assert not Path("/opt/ml/processing").exists()


def test_without_namespaces_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(ctypes, "CDLL", forbidden)
    with pytest.raises(SystemExit, match=r"Operation not permitted.*take the path from an argument or an SM_ variable"):
        namespace.enter(str(tmp_path))


def test_a_path_in_a_docstring_needs_no_mount(tmp_path: Path) -> None:
    code = tmp_path / "opt" / "ml" / "code"
    code.mkdir(parents=True)
    (code / "a.py").write_text('"""Reads /opt/ml/x."""\n# and /opt/ml/y\n')
    assert not namespace.has_fixed_path(code, tmp_path)
    (code / "b.py").write_text("open('/opt/ml/x')\n")
    assert namespace.has_fixed_path(code, tmp_path)
