"""Writes its arguments, one a line."""

import sys
from pathlib import Path

(Path(__file__).parents[2] / "page" / "words.txt").write_text("\n".join(sys.argv[1:]))
