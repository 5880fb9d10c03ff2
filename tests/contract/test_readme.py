"""What the README shows works as it is pasted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import check
from tests import fleet

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LOCAL = "http://127.0.0.1:8080"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


def test_its_configuration_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("INCEPTION_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "test")
    file = tmp_path / "talaria.yaml"
    file.write_text(block("yaml"), encoding="utf-8")
    assert check(file) == []


def test_its_curl_line_is_answered(gateway: fleet.Serving):
    found = re.search(r"curl (\S+) -H '(.*?): (.*?)' \\\n\s+-d '(.*)'", README)
    assert found
    url = found[1].replace(LOCAL, gateway.url)
    answer = fleet.http.post(url, content=found[4].encode(), headers={found[2]: found[3]})
    assert json.loads(answer.content)["choices"][0]["message"]["content"]


def test_its_python_snippet_prints_an_answer(gateway: fleet.Serving):
    code = block("python").replace(LOCAL, gateway.url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 10


@pytest.mark.parametrize(
    "paper", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
)
def test_links_lead_somewhere(paper: str):
    text = (ROOT / paper).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", text):
        if not link.startswith("http"):
            assert ((ROOT / paper).parent / link).exists(), link
