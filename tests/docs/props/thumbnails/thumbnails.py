"""The plugin that the README's application loads."""

from meshvisor import Worker, rpc


class Thumbnails(Worker):
    """Makes small pictures of large ones."""

    version = "2.1"

    @rpc
    def render(self, path: str) -> bytes:
        """Return what stands for the picture in ``path``."""
        return f"a small {path}".encode()
