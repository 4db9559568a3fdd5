"""Process of a transform job: `python transform_process.py OPT_ML`. The model's own inference code answers."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from sagegate.local.server import Model

opt_ml = Path(sys.argv[1])


def split(content: bytes, split_type: str, limit: int) -> Iterator[bytes]:
    """Yield a file as requests: whole, or as many lines at a time as fit into `limit` bytes."""
    if split_type != "Line":
        yield content
        return
    part = b""
    for line in content.splitlines(keepends=True):
        if part and len(part) + len(line) > limit:
            yield part
            part = b""
        part += line
    if part:
        yield part


def main() -> None:
    """Write the answers to every input file."""
    settings = json.loads((opt_ml / "transform.json").read_text())
    model = Model(opt_ml / "model")
    for file in sorted(f for f in (opt_ml / "input").rglob("*") if f.is_file()):
        name = file.relative_to(opt_ml / "input").as_posix()
        answers = []
        for number, body in enumerate(split(file.read_bytes(), settings["split"], settings["limit"]), 1):
            try:
                answer, _ = model.answer(body, settings["content_type"], settings["accept"])
            except Exception as error:
                raise RuntimeError(f"{name}, request {number}: {error}") from error
            answers.append(answer)
        target = opt_ml / "output" / f"{name}.out"
        target.parent.mkdir(parents=True, exist_ok=True)
        if settings["assemble"] == "Line":
            answers = [answer.rstrip(b"\n") + b"\n" for answer in answers]
        target.write_bytes(b"".join(answers))
        print(f"{name}: {len(answers)} requests")


main()
