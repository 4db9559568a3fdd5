"""Edits of cache entries, digests, stored objects, code, data and libraries: no later result is stale."""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from local_lab import make_lab, write

from campaigns.campaign import Campaign, Case

CACHED = {"CacheConfig": {"Enabled": True}}
READ = "(base / 'input' / 'data' / {file!r}).read_text()"


def damage(file: Path, chance: random.Random) -> None:
    """Change a file in one of many ways; some keep its size and its modification time."""
    state, content = file.stat(), bytearray(file.read_bytes() or b" ")
    others = [other for other in file.parent.iterdir() if other.is_file() and other != file]
    kind = chance.randrange(8)
    if kind == 0:
        file.unlink()
    elif kind == 1 and file.suffix == ".json":  # a folder in place of an object is other objects, not a damage
        file.unlink()
        (file / "inner").mkdir(parents=True)
    elif kind == 2 and others:
        shutil.copyfile(chance.choice(others), file)
    elif kind == 3:
        os.truncate(file, chance.randrange(len(content)))
    elif kind == 4:
        file.write_text(chance.choice(["", "{}", "[]", "null", '{"Outputs": {}, "Properties": {}, "Arn": "x"}']))
    else:
        position = chance.randrange(len(content))
        content[position] = (content[position] + chance.randint(1, 255)) % 256
        file.write_bytes(content)
        if kind > 5:
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: one edit between two runs of a pipeline of two steps."""
    root, site = folder / "project", folder / "site"
    library = site / "library-1.0.dist-info" / "RECORD"
    library.parent.mkdir(parents=True)
    library.write_text("0")
    state = root / ".mlops"
    now = {"code": "a", "data": "0"}

    def run() -> list[bool]:
        """Run the pipeline, check its result, and return which steps came from the cache."""
        lab = make_lab(root)
        try:
            data = lab.put("data/in.txt", now["data"])
            code = write(f"{now['code']!r} + " + READ.format(file="in.txt"))
            first = lab.processing("First", code, {"data": data}, step=CACHED)
            out = {"Get": "Steps.First.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"}
            second = lab.processing("Second", write("2 * " + READ.format(file="x.txt")), {"data": out}, step=CACHED)
            done = lab.run(first, second)
            assert done.status == "Succeeded", done.reason
            results = [lab.get(f"{lab.output(done, name)}/x.txt") for name in ("First", "Second")]
            right = now["code"] + now["data"]
            assert results == [right, 2 * right], f"stale: {results}, and {right!r} is right"
            return ["CacheHitResult" in done.steps[name] for name in ("First", "Second")]
        finally:
            lab.client.close()

    def case(chance: random.Random) -> None:
        with patch("sysconfig.get_paths", lambda: {"purelib": str(site)}):
            run()
            assert run() == [True, True]
            kinds = ["cache/*.json", "digests.json", "s3/bucket/*/First/out/x.txt", "s3/bucket/*/Second/out/x.txt"]
            kind = chance.choice([*kinds, *kinds, "s3/bucket/code/*/main.py", "s3/bucket/data/in.txt", *now, "library"])
            files = [file for file in state.glob(kind) if file.is_file()]
            if files:
                damage(chance.choice(files), chance)
            elif kind in now:  # as long as before, with the same time
                now[kind] = chance.choice("bcdefg" if kind == "code" else "123456")
            else:
                library.write_text(str(float(library.read_text()) + 1))
            cached = run()
            assert kind != "library" or cached == [False, False]
            assert run() == [True, True]

    yield case
    shutil.rmtree(root)


CAMPAIGN = Campaign("cache edits", "after an edit of anything that the cache uses, no result is stale", 100, 8, prepare)
