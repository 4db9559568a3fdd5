"""The process of a transform job: `python transform_process.py OPT_ML`. The model's own inference code does the work."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

opt_ml = Path(sys.argv[1])
sys.path.insert(0, str(opt_ml / "model" / "code"))
import inference  # type: ignore[import-not-found,unused-ignore]  # noqa: E402


def parts(content: bytes, split: str, limit: int) -> Iterator[bytes]:
    """A file as requests: whole, or as many lines at a time as fit into `limit` bytes."""
    if split != "Line":
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
    """Answer every file."""
    order = json.loads((opt_ml / "batch.json").read_text())
    model = inference.model_fn(str(opt_ml / "model"))
    folder = opt_ml / "input"
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        name = file.relative_to(folder).as_posix()
        answers = []
        for number, part in enumerate(parts(file.read_bytes(), order["split"], order["limit"]), 1):
            try:
                rows = inference.input_fn(part, order["content_type"])
                answer = inference.output_fn(inference.predict_fn(rows, model), order["accept"])
            except ValueError as error:
                sys.exit(f"{name}, request {number}: {error}")
            text = answer[0] if isinstance(answer, tuple) else answer
            answers.append(text.encode() if isinstance(text, str) else bytes(text))
        target = opt_ml / "output" / f"{name}.out"
        target.parent.mkdir(parents=True, exist_ok=True)
        joint = b"\n" if order["assemble"] == "Line" else b""
        target.write_bytes(joint.join(a.rstrip(b"\n") for a in answers) + joint if joint else b"".join(answers))
        print(f"{name}: {len(answers)} requests")


main()
