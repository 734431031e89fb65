"""`python -m flowvi`: the same as the command `flowvi`."""

from __future__ import annotations

from flowvi.cli import main

if __name__ == "__main__":
    main()
