"""Arguments of `raison plan`. Imports nothing that takes time to load.

Not covered: what the values must be beyond their type.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from raison.cli.arguments import Commands, add, as_json

PRECISIONS = ("bf16", "fp8", "fp4", "int8", "int4")
MODEL_HELP = (
    "a preset, a config.json or its folder, a known name such as llama-3.1-70b, or TOTAL/ACTIVE such as 671e9/37e9"
)


def plan_commands(commands: Commands) -> None:
    plan = add(
        commands, "plan", "predict what training and serving need and cost", "raison plan serve r1-671b --chip H200"
    )
    kinds = plan.add_subparsers(dest="plan", required=True, metavar="WHAT")
    for make in (_train, _rl, _serve, _compare, _fit, _validate, _story):
        as_json(make(kinds))


def _train(kinds: Commands) -> ArgumentParser:
    parser = add(
        kinds, "train", "FLOPs, chip-hours, dollars and memory of pre-training",
        "raison plan train r1-671b --chip H800 --chips 2048 --tokens 14.8e12 --precision fp8",
    )  # fmt: skip
    _model_and_chip(parser)
    parser.add_argument(
        "--tokens", type=float, metavar="N", help="training tokens (default: the model's own, or 20 a parameter)"
    )
    parser.add_argument("--sequence", type=int, default=4096, metavar="N", help="tokens of a sequence (default: 4096)")
    parser.add_argument("--batch-tokens", type=float, metavar="N", help="tokens of a global batch")
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16", help="of the products (default: bf16)")
    parser.add_argument("--teacher", metavar="MODEL", help="add what a teacher costs that writes the training data")
    parser.add_argument("--logits", action="store_true", help="the teacher reads every token instead of writing it")
    parser.add_argument(
        "--kept", type=float, default=1.0, metavar="X", help="share of the teacher's tokens that is kept (default: 1)"
    )
    parser.add_argument(
        "--epochs", type=float, default=1.0, metavar="N", help="passes over what the teacher wrote (default: 1)"
    )
    for name, what in (("tp", "tensor"), ("pp", "pipeline"), ("dp", "data"), ("ep", "expert")):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{what} parallelism (default: searched)")
    return parser


def _rl(kinds: Commands) -> ArgumentParser:
    parser = add(
        kinds, "rl", "what reinforcement learning costs: rollouts, updates, chips",
        "raison plan rl r1-671b --chip H800 --chips 512 --precision fp8 --steps 10400 --output 8000 --round 8192 "
        "--longest 32768:0.79,65536:0.21 --guess 1.8",
    )  # fmt: skip
    _model_and_chip(parser)
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="updates (default: 1000)")
    parser.add_argument("--prompts", type=int, default=32, metavar="N", help="problems of a step (default: 32)")
    parser.add_argument("--samples", type=int, default=16, metavar="N", help="samples of a problem (default: 16)")
    parser.add_argument("--input", type=int, default=256, metavar="N", help="tokens of a prompt (default: 256)")
    parser.add_argument("--output", type=int, default=4096, metavar="N", help="tokens of a sample (default: 4096)")
    parser.add_argument(
        "--longest", metavar="N[:SHARE,...]",
        help="limit of a sample's tokens, or several with their shares of the rounds (default: 4 x --output)",
    )  # fmt: skip
    parser.add_argument("--round", type=int, metavar="N", help="samples drawn at once (default: those of a step)")
    parser.add_argument("--asynchronous", action="store_true", help="no round waits for its longest sample")
    parser.add_argument(
        "--guess", type=float, default=1.0, metavar="X", help="tokens a step with speculation (default: 1)"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16", help="of the products (default: bf16)")
    return parser


def _serve(kinds: Commands) -> ArgumentParser:
    parser = add(
        kinds, "serve", "tokens/s a user, a chip and a rack, time to first token, $/M tokens, and the layout for it",
        "raison plan serve r1-671b --chip H200 --streams 64",
        "raison plan serve r1-671b --chip 16xSN40L --for speed",
        "raison plan serve smollm2 --streams 8 --input 64 --output 64 --cached 1 --json",
    )  # fmt: skip
    _model_and_chip(parser)
    _load(parser)
    parser.add_argument("--tp", type=int, metavar="N", help="tensor parallelism (default: searched)")
    parser.add_argument("--pp", type=int, metavar="N", help="pipeline stages (default: searched)")
    parser.add_argument(
        "--dp", type=int, metavar="N", help="ranks of attention beside shared experts (default: searched)"
    )
    parser.add_argument("--ep", type=int, metavar="N", help="chips that share out the experts (default: searched)")
    parser.add_argument("--disaggregated", action="store_true", help="prefill and decode on chips of their own")
    parser.add_argument(
        "--for", dest="aim", choices=["price", "speed"], default="price",
        help="the cheapest token within the limits, or the fastest user (default: price)",
    )  # fmt: skip
    return parser


def _compare(kinds: Commands) -> ArgumentParser:
    parser = add(
        kinds, "compare", "several chips or models side by side over load, maybe as a plot",
        "raison plan compare r1-671b --chip H200,B200,MI300X --plot compare.svg",
        "raison plan compare r1-671b,llama-3.1-70b --chip H200",
    )  # fmt: skip
    _model_and_chip(parser)
    _load(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="tokens/s a user against tokens/s a chip")
    return parser


def _fit(kinds: Commands) -> ArgumentParser:
    parser = add(
        kinds, "fit", "fit the constants of chips and engines to published points",
        "raison plan fit published.csv inferencex_silicon_sample.csv --out calibrations.json",
    )  # fmt: skip
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.csv", help="published points, or silicon samples")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where the calibrations go")
    parser.add_argument("--training", type=Path, metavar="FILE.json", help="where training's utilisation goes")
    parser.add_argument(
        "--cross", action="store_true",
        help="hold every source against constants that were fitted without it, by figure and by source",
    )  # fmt: skip
    parser.add_argument("--leave-out", default="", metavar="LIST", help="sources (prefixes of id) to leave out")
    return parser


def _validate(kinds: Commands) -> ArgumentParser:
    parser = add(
        kinds, "validate", "predict every row in scope of a file of published figures: coverage, then errors",
        "raison plan validate", "raison plan validate figures.csv --json", "raison plan validate --hold-out",
    )  # fmt: skip
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE.csv",
        help="a file with the columns of published.csv (default: the published figures that the constants rest on)",
    )  # fmt: skip
    parser.add_argument("--rows", action="store_true", help="show every row beside its prediction, or why it has none")
    parser.add_argument(
        "--hold-out", action="store_true",
        help="refit training's constants without each source before its rows are predicted",
    )  # fmt: skip
    return parser


def _story(kinds: Commands) -> ArgumentParser:
    return add(
        kinds, "story", "R1's own figures recomputed: claim, prediction, published measurement", "raison plan story"
    )


def _model_and_chip(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--chip", default="this", metavar="NAME", help="such as H100, 8xH200, M3 Ultra or this machine (default: this)"
    )
    parser.add_argument("--refresh", action="store_true", help="measure this machine's bandwidth and rates anew")
    parser.add_argument("--chips", type=int, metavar="N", help="how many (default: what the layout needs)")
    parser.add_argument(
        "--usd-per-hour", type=float, metavar="X", help="price of a chip (default: the chip's own, dated)"
    )


def _load(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--precision", metavar="NAME", help="of the weights: bf16, fp8, nvfp4, q4_k_m ... (default: what is usual)"
    )
    parser.add_argument("--input", type=int, default=1024, metavar="N", help="tokens of a prompt (default: 1024)")
    parser.add_argument("--output", type=int, default=1024, metavar="N", help="tokens of an answer (default: 1024)")
    parser.add_argument("--streams", type=int, metavar="N", help="requests at once (default: searched)")
    parser.add_argument(
        "--cached", type=float, default=0.0, metavar="SHARE", help="share of a prompt that the cache knows (default: 0)"
    )
    parser.add_argument("--rate", type=float, metavar="X", help="requests a second that arrive, instead of --streams")
    parser.add_argument("--max-tpot", type=float, metavar="MS", help="limit of the time per output token")
    parser.add_argument("--max-ttft", type=float, metavar="MS", help="limit of the time to first token")
    parser.add_argument("--engine", default="", metavar="NAME", help="vllm, sglang, trtllm, llama.cpp, raison ...")
    parser.add_argument(
        "--guess", type=float, default=1.0, metavar="X", help="tokens a step with speculation (default: 1)"
    )
