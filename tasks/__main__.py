"""Celery's command line for any working folder: `python -P -m farm.tasks -A farm.tasks ...`.

Celery imports the application, and whatever that imports, from the working folder first, where
another project's `farm`, `tasks.py` or `redis.py` would take the place of ours.
"""

from contextlib import nullcontext

from celery.__main__ import main
from celery.utils import imports

imports.cwd_in_path = nullcontext

if __name__ == "__main__":
    main()
