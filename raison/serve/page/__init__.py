"""The page at `/`, built into the package."""

from raison.serve.page.page import is_page, mount

__all__ = ["is_page", "mount"]
