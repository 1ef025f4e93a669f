"""`python -m bcx ...` is the same as `bcx ...`."""

from bcx.cli.main import main

if __name__ == "__main__":
    main()
