"""Process of a Lambda step: `python function_process.py HANDLER.py EVENT.json ANSWER.json`."""

import json
import os
import sys

handler_file, event_file, answer_file = sys.argv[1:]
sys.path[0] = os.path.dirname(handler_file)
with open(handler_file, encoding="utf-8") as source:
    function: dict[str, object] = {"__name__": "handler", "__file__": handler_file}
    exec(compile(source.read(), handler_file, "exec"), function)
handler = function.get("handler")
if not callable(handler):
    sys.exit(f"{handler_file} has no function handler(event, context)")
with open(event_file, encoding="utf-8") as event:
    answer = handler(json.load(event), None)
with open(answer_file, "w", encoding="utf-8") as target:
    json.dump(answer, target)
