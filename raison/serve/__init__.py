"""The room of the server: an OpenAI-compatible API over the engine, its keys and its books.

Nothing is done on import.
"""
