"""``python -m vecfill``."""

from vecfill.cli import main

if __name__ == "__main__":
    main()
