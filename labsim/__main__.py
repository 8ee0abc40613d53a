"""`python -m labsim`: the command line."""

from __future__ import annotations

from labsim.cli import main

if __name__ == "__main__":
    main()
