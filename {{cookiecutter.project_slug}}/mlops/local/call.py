"""The process of a Lambda step: `python call.py HANDLER.py EVENT.json ANSWER.json`."""

import json
import runpy
import sys
from pathlib import Path

handler_file, event_file, answer_file = sys.argv[1:]
sys.path.insert(0, str(Path(handler_file).parent))
handler = runpy.run_path(handler_file).get("handler")
if handler is None:
    sys.exit(f"{handler_file} has no function handler(event, context)")
answer = handler(json.loads(Path(event_file).read_text()), None)
Path(answer_file).write_text(json.dumps(answer))
