"""`python -m tasks.scheduler` starts a scheduler."""

import sys

from tasks.scheduler.process import main

if __name__ == "__main__":
    sys.exit(main())
