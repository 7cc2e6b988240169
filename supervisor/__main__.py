"""``python -m meshvisor.supervisor`` is ``supervise``."""

from .cli import main

if __name__ == "__main__":
    main()
