"""`python -m jaxmlp`: the same as the program `jaxmlp`."""

import sys

from jaxmlp.cli import main

if __name__ == "__main__":
    sys.exit(main())
