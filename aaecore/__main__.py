"""`python -m aaecore`: the command line, where its script is not on the PATH."""

from .app.cli import main

if __name__ == "__main__":
    main()
