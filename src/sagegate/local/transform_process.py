"""Process of a transform job: `python transform_process.py OPT_ML`. The model's own inference code answers.

Imports nothing of this package: a job's process need not have it.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

opt_ml = Path(sys.argv[1])
sys.path.insert(0, str(opt_ml / "model" / "code"))
import inference  # type: ignore[import-not-found,unused-ignore]  # noqa: E402


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


def transform(model: Any, body: bytes, content_type: str, accept: str) -> Any:
    """Return the inference code's response to a request."""
    if hasattr(inference, "transform_fn"):
        return inference.transform_fn(model, body, content_type, accept)
    return inference.output_fn(inference.predict_fn(inference.input_fn(body, content_type), model), accept)


def main() -> None:
    """Write the answers to every input file."""
    settings = json.loads((opt_ml / "transform.json").read_text())
    model = inference.model_fn(str(opt_ml / "model"))
    for file in sorted(f for f in (opt_ml / "input").rglob("*") if f.is_file()):
        name = file.relative_to(opt_ml / "input").as_posix()
        answers = []
        for number, body in enumerate(split(file.read_bytes(), settings["split"], settings["limit"]), 1):
            try:
                answer = transform(model, body, settings["content_type"], settings["accept"])
            except Exception as error:
                raise RuntimeError(f"{name}, request {number}: {error}") from error
            text = answer[0] if isinstance(answer, tuple) else answer
            answers.append(text.encode() if isinstance(text, str) else bytes(text))
        target = opt_ml / "output" / f"{name}.out"
        target.parent.mkdir(parents=True, exist_ok=True)
        if settings["assemble"] == "Line":
            answers = [answer.rstrip(b"\n") + b"\n" for answer in answers]
        target.write_bytes(b"".join(answers))
        print(f"{name}: {len(answers)} requests")


main()
