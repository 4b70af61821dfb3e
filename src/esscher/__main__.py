"""`python -m esscher` is the command `esscher`."""

from esscher.cli import main

if __name__ == "__main__":
    main()
