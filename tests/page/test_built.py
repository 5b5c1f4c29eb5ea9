"""The built page is the one that its sources make: hashes of both were written down when it was built."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEB, STATIC = ROOT / "web", ROOT / "raison/serve/page/static"
RECORD = STATIC / "built.json"
UNBUILT = ("node_modules", "build-test")


def hashes(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] not in UNBUILT]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.skipif(not WEB.is_dir(), reason="the page's sources are not part of an installed package")
def test_the_sources_are_those_that_were_built() -> None:
    assert hashes(WEB) == json.loads(RECORD.read_text())["sources"], "the page's sources have changed: run web/build"


def test_the_built_files_are_as_they_were_built() -> None:
    built = {name: sha for name, sha in hashes(STATIC).items() if name != RECORD.name}
    assert built == json.loads(RECORD.read_text())["built"], "built files were changed by hand: run web/build"


def test_all_that_the_page_loads_is_in_the_package() -> None:
    page, style = (STATIC / "index.html").read_text(), (STATIC / "assets/main.css").read_text()
    loaded = re.findall(r'(?:src|href)="/([^"]+)"', page)
    fonts = [f"assets/{name}" for name in re.findall(r'url\("?\./([^")]+)', style)]
    assert len(loaded) >= 3 and len(fonts) >= 10
    for name in (*loaded, *fonts):
        assert (STATIC / name).is_file(), name
