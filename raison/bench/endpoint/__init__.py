"""The speed, the price and the truthfulness of any OpenAI-compatible endpoint, measured from outside.

Nothing is done on import. What each figure means: docs/bench-endpoint.md.
"""
