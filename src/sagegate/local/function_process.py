"""Process of a Lambda step: `python -I -S function_process.py HANDLER.py EVENT.json ANSWER.json SITE_PACKAGES...`."""

import json
import os
import sys

# No runpy, pathlib or site-packages set-up: each takes as long to load as the rest of this process.
handler_file, event_file, answer_file, *site_packages = sys.argv[1:]
sys.path[:] = [os.path.dirname(handler_file), *sys.path, *site_packages]
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
