"""InferenceX's measured points as rows: aiconfigurator's silicon_sample.csv (Apache-2.0), two rows a line.

A line that shares out experts writes tp (or attention_dp) as TP x EP; it is read as the chips that there were. Lines of
racks or of more than eight chips, where this cannot be told, and those that prefill on chips of their own are left
out. Not covered: other columns than those that a row has words for.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from raison.errors import UserError
from raison.plan.rows import Row, row_of

NEEDED = ("silicon_ttft_ms", "silicon_tpot_ms", "system", "model_path")
NODE = 8
RACKS = ("gb200", "gb300")
"""Their aggregated lines do not tell how many chips there were."""
SOURCE = "ai-dynamo/aiconfigurator: silicon_sample.csv"


def is_silicon(path: Path) -> bool:
    """Whether the file has such columns."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return set(NEEDED) <= set(file.readline().strip().split(","))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_silicon(path: Path) -> list[Row]:
    """Two rows (tpot_ms, ttft_ms) of each aggregated line, duplicates once."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for line in csv.DictReader(file) for row in _rows(line)]
    return list(
        {(row.model, row.hardware, row.precision, row.text, row.metric, row.value): row for row in rows}.values()
    )


def _rows(line: Mapping[str, str]) -> Iterator[Row]:
    chips = _chips(line)
    if line["mode"] != "agg" or chips is None or line["system"] in RACKS:
        return
    tp, dp = chips
    told = re.search(r"silicon_concurrency=(\d+)", line["silicon_data_source"])
    date = re.search(r"measured=(\d{4}-\d\d)", line["silicon_data_source"])
    streams = int(told[1]) if told else int(line["batch_size"]) * dp
    text = (f"InferenceX agg {line['backend']} ISL/OSL {line['isl']}/{line['osl']} conc {streams} "
            f"TP{tp} EP{_whole(line, 'moe_ep_size')} DP{dp}")  # fmt: skip
    for metric in ("tpot_ms", "ttft_ms"):
        yield row_of({
            "id": f"{line['id']}-{metric[:4]}", "model": line["model_path"], "hardware": line["system"],
            "precision": line["precision"] or line["gemm_quant_mode"] or "bf16", "chips": str(tp * dp), "text": text,
            "workload": text, "metric": metric, "value": line[f"silicon_{metric}"], "unit": "ms",
            "date": date[1] if date else "", "source": SOURCE,
        })  # fmt: skip


def _chips(line: Mapping[str, str]) -> tuple[int, int] | None:
    """Tensor-parallel chips and attention ranks; None where the columns contradict each other."""
    tp, dp, slices, experts = (
        _whole(line, name) for name in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    doubled = slices == experts > 1
    tp, dp = (slices if doubled and n > NODE else n for n in (tp, dp))
    if tp * dp > NODE and experts <= tp * dp:
        dp = 1  # both columns name the same chips
    return (tp, dp) if tp * dp <= NODE else None


def _whole(line: Mapping[str, str], name: str) -> int:
    return int(line[name] or 1) or 1
