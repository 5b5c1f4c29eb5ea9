"""Arguments of `raison serve`, `raison keys` and `raison usage`. Imports nothing that takes time to load.

Not covered: what the values must be beyond their type.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from raison.cli.arguments import Commands, add, as_json, draft, threads


def serve_command(commands: Commands) -> None:
    serve = add(
        commands, "serve", "serve a model to OpenAI's clients, and a page to talk with it",
        "raison serve", "raison serve smollm2 --port 8080", "raison serve runs/my-run/model --host 0.0.0.0",
    )  # fmt: skip
    serve.add_argument(
        "model", nargs="?", metavar="MODEL", help="whatever --model takes (default: the shipped reasoner)"
    )
    draft(serve)
    _listening(serve)
    _answering(serve)
    _watching(serve)
    threads(serve)


def _listening(serve: ArgumentParser) -> None:
    """Where, and for whom."""
    serve.add_argument("--name", default="", metavar="NAME", help="what clients call it (default: from its path)")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, metavar="N", help="(default: 8000)")
    serve.add_argument("--database", metavar="URL", help="keys and usage (default: SQLite in RAISON_HOME, ~/.raison)")
    serve.add_argument("--early-access", action="store_true", help="serve only names that raison keys allow let in")
    serve.add_argument(
        "--prices", type=Path, metavar="FILE", help="dollars per million tokens (default: prices.toml in RAISON_HOME)"
    )


def _answering(serve: ArgumentParser) -> None:
    """How, and for how long."""
    serve.add_argument("--dtype", default="auto", help="fp32, bf16, q8, q4 (default: that of the file)")
    serve.add_argument(
        "--cache", choices=["auto", "fp32", "fp16", "q8"], default="auto",
        help="what is kept of each token in; q8 holds almost twice the tokens of fp16 (default: by --dtype)",
    )  # fmt: skip
    serve.add_argument("--queue", type=int, default=512, metavar="N", help="requests that may wait (default: 512)")
    for name, default, text in (("deadline", 600.0, "seconds a request may take"),
                                ("drain", 30.0, "seconds for answers under way after SIGTERM")):  # fmt: skip
        serve.add_argument(f"--{name}", type=float, default=default, metavar="S", help=f"{text} (default: {default:g})")
    serve.add_argument(
        "--reasoning-field", choices=["reasoning_content", "reasoning", "both"], default="reasoning_content",
        help="what an answer's thinking is called (default: reasoning_content)",
    )  # fmt: skip
    serve.add_argument(
        "--checker", action="append", default=[], metavar="FILE.py:NAME",
        help="a checker of yours that requests may name for best-of-n; it runs in the sandbox (may be repeated)",
    )  # fmt: skip


def _watching(serve: ArgumentParser) -> None:
    """What is seen of it and of training."""
    serve.add_argument(
        "--runs", type=Path, metavar="FOLDER",
        help="training runs that the page shows (default: ./runs, or none as soon as there are keys)",
    )  # fmt: skip
    serve.add_argument(
        "--otel", metavar="URL",
        help="an OpenTelemetry collector to send spans to, such as http://localhost:4318 (default: OTEL_*, or none)",
    )  # fmt: skip
    serve.add_argument("--log", choices=["debug", "info", "warning", "error"], default="info", help="(default: info)")


def access_commands(commands: Commands) -> None:
    keys = add(
        commands, "keys", "make, list, limit and revoke the server's API keys",
        "raison keys create --name alice --quota 1000000/month", "raison keys list",
    )  # fmt: skip
    actions = keys.add_subparsers(dest="keys", required=True, metavar="WHAT")
    create = add(actions, "create", "make a key; it is printed this once", "raison keys create --name alice")
    create.add_argument("--name", required=True, metavar="N", help="whose it is; several keys may share a name")
    create.add_argument("--allow", action="store_true", help="put the name on the list of the early access, too")
    listing = add(actions, "list", "show every key, its limits and what it used", "raison keys list --json")
    revoke = add(actions, "revoke", "end a key for good, from the next request on", "raison keys revoke alice")
    limit = add(
        actions, "limit", "change what a key may use; what is not given stays",
        "raison keys limit alice --requests-per-minute 60", "raison keys limit alice --quota none",
    )  # fmt: skip
    allow = add(
        actions, "allow", "let a name into the early access (raison serve --early-access)", "raison keys allow alice"
    )
    disallow = add(actions, "disallow", "take a name off the list of the early access", "raison keys disallow alice")
    for parser in (revoke, limit):
        parser.add_argument("key", metavar="KEY", help="its id, or its name if only one key has it")
    for parser in (allow, disallow):
        parser.add_argument("name", metavar="NAME", help="the name its keys have, or will have")
    for parser in (create, limit):
        _key_terms(parser)
    usage = add(
        commands, "usage", "report requests, tokens and cost by key, model and day",
        "raison usage --since 7d", "raison usage --by key,model,day --csv",
    )  # fmt: skip
    usage.add_argument(
        "--by", default="key,model", metavar="LIST", help="key, id, model, endpoint, day (default: key,model)"
    )
    usage.add_argument("--since", metavar="DAY", help="a day (UTC) such as 2026-11-01, or 7d for the last seven")
    usage.add_argument("--csv", action="store_true", help="print comma-separated values")
    for parser in (create, listing, revoke, limit, allow, disallow, usage):
        parser.add_argument(
            "--database", metavar="URL",
            help="postgresql://... or sqlite:///PATH (default: RAISON_DATABASE, or raison.db under RAISON_HOME)",
        )  # fmt: skip
        as_json(parser)


def _key_terms(parser: ArgumentParser) -> None:
    for name, metavar, text in (
        ("models", "LIST", "models it may use, separated by commas; all lifts the limit"),
        ("requests-per-minute", "R", "requests a minute; none lifts the limit"),
        ("tokens-per-minute", "T", "tokens a minute, of prompts and completions; none lifts the limit"),
        ("quota", "TOKENS", "tokens in all, or a day or month in UTC: 500000, 50000/day, 1000000/month; or none"),
        ("expires", "DAYS", "days from now until it ends; none = never"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument("--priority", type=int, metavar="P", help="higher is served first (default: 0)")
