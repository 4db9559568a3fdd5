"""`python -m fakes [--port N]`: serve until Ctrl-C, and print the variables to export.

src/ and tests/ must be on PYTHONPATH. Jobs run with this Python, so it needs what the project's scripts import.
"""

from __future__ import annotations

import argparse
import os
import signal

from fakes.remote import DEFAULT_ACCOUNT, DEFAULT_REGION, READY
from fakes.server import FakeAws


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(prog="python -m fakes", description="A fake AWS for tests and for trying.")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free one)")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONPATH", None)  # jobs must not import from here
    wake, wake_write = os.pipe()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os.write(wake_write, b"."))
    fake_aws = FakeAws(arguments.port)
    for name, value in fake_aws.environment().items():
        print(f"export {name}={value}")
    print(f"# account {DEFAULT_ACCOUNT}, region {DEFAULT_REGION}: write them into environments/*.toml of a project")
    print("# then, in a shell with these variables: sagegate bootstrap dev, and sagegate run --env dev")
    print(f"{READY}; Ctrl-C stops it", flush=True)
    os.read(wake, 1)
    fake_aws.close()


if __name__ == "__main__":
    main()
