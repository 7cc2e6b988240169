"""``python -m tests.docs``: write the generated parts of the guide anew."""

from __future__ import annotations

import sys

from .generated import filled, generated_pages


def main() -> None:
    """Bring every page up to date and name those that were not."""
    for page in generated_pages():
        text = page.read_text()
        if (new := filled(text)) != text:
            page.write_text(new)
            sys.stdout.write(f"{page.name} is new\n")


if __name__ == "__main__":
    main()
