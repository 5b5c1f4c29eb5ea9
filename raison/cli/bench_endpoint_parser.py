"""Arguments of `raison bench endpoint`. Imports nothing that takes time to load.

Not covered: what the values must be beyond their type (bench_endpoint.py).
"""

from __future__ import annotations

from argparse import ArgumentParser

from raison.cli.arguments import Commands, add, as_json


def endpoint_command(kinds: Commands) -> None:
    endpoint = add(
        kinds, "endpoint", "measure any OpenAI-compatible endpoint: latencies, speed, price, what a right answer costs",
        "raison bench endpoint http://127.0.0.1:8000/v1",
        "raison bench endpoint https://HOST/v1 --model NAME --key-env HOST_KEY --inputs 1k,10k --parallel 1,10 "
        "--tokenizer tokenizer.json --report endpoint.html",
        "raison bench endpoint URL --rates 0.5,2 --limit ttft=0.5,itl=0.05 --json",
        "raison bench endpoint URL --task countdown --requests 200 --price-in 0.55 --price-out 2.19",
    )  # fmt: skip
    endpoint.add_argument("url", nargs="?", metavar="URL", help="up to where /chat/completions is added")
    endpoint.add_argument(
        "--self-test", action="store_true",
        help="measure a server whose delays are known instead: exit code 1 where this machine is off by over 2 ms",
    )  # fmt: skip
    for group in (_asked, _when, _told, _files):
        group(endpoint)
    as_json(endpoint)


def _asked(endpoint: ArgumentParser) -> None:
    def option(name: str, metavar: str, text: str) -> None:
        endpoint.add_argument(name, metavar=metavar, help=text)

    option("--model", "NAME", "what the endpoint calls it (default: the only one it lists)")
    option("--key-env", "NAME", "environment variable that holds the key (default: no key is sent)")
    option("--inputs", "LIST", "tokens of unique synthetic prompts, such as 1k,10k,100k (default: 1k)")
    option("--prompts", "FILE", "ask these instead: a prompt a line, or .jsonl with prompt or messages")
    option("--task", "TASK", "ask problems of this task instead and check the answers: countdown, arithmetic, ...")
    endpoint.add_argument("--level", type=int, metavar="N", help="their difficulty (default: the task's first)")
    endpoint.add_argument("--output", default="512", metavar="N", help="max_tokens (default: 512)")
    endpoint.add_argument("--temperature", type=float, metavar="T", help="of sampling (default: the server's own)")
    endpoint.add_argument(
        "--ignore-eos", action="store_true", help="ask for exactly --output tokens, of servers that know the field"
    )
    option("--body", "JSON", "fields to add to each request, or null to leave one out: '{\"stream_options\": null}'")


def _when(endpoint: ArgumentParser) -> None:
    endpoint.add_argument(
        "--parallel", metavar="LIST", help="closed loops: requests at once (default: 1,10 without --rates)"
    )
    endpoint.add_argument("--rates", metavar="LIST", help="open loops: requests a second, whoever still waits")
    endpoint.add_argument(
        "--arrivals", choices=["poisson", "constant"], default="poisson", help="of open loops (default: poisson)"
    )
    endpoint.add_argument("--requests", default="20", metavar="N", help="measured for each load (default: 20)")
    endpoint.add_argument(
        "--warm-up", type=int, metavar="N", help="short requests before each load (default: as many as in parallel)"
    )
    endpoint.add_argument("--timeout", type=float, default=600, metavar="S", help="of a request (default: 600)")
    endpoint.add_argument(
        "--seed", type=int, metavar="N", help="of prompts and arrivals (default: a new one each time)"
    )


def _told(endpoint: ArgumentParser) -> None:
    endpoint.add_argument(
        "--tokenizer", default="", metavar="FILE",
        help="count tokens in this tokenizer.json, folder or model's vocabulary (default: the shipped reasoner's)",
    )  # fmt: skip
    endpoint.add_argument(
        "--limit", default="", metavar="LIST", help="goodput: ttft, ttfat, itl, e2e in seconds, as in ttft=0.5,itl=0.05"
    )
    endpoint.add_argument("--price-in", type=float, metavar="$", help="per million prompt tokens")
    endpoint.add_argument("--price-out", type=float, metavar="$", help="per million completion tokens")


def _files(endpoint: ArgumentParser) -> None:
    endpoint.add_argument("--csv", metavar="FILE", help="write a row for each request")
    endpoint.add_argument("--report", metavar="FILE", help="write an HTML page with plots (needs 'raison[report]')")
