"""The page, for `python demo.py` and for a Hugging Face Space: builds the app and launches it, nothing else."""

import sys

from bcx.app.server import create, main, options

arguments = sys.argv[1:] if __name__ == "__main__" else []
demo = create(options(arguments).checkpoint)

if __name__ == "__main__":
    main(arguments, demo)
