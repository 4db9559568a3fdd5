"""`python -m sagegate` is the same as `sagegate`."""

from sagegate.cli import main

if __name__ == "__main__":
    main()
