"""`python -m chaoslab` is the command line."""

from chaoslab.cli import main

if __name__ == "__main__":
    main()
