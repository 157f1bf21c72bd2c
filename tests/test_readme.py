"""The README: its example runs as it stands, with smaller numbers, and it stays short."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def text():
    return README.read_text(encoding="utf-8")


def test_the_example_runs(text, tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    small = code.replace("(1000, 1000)", "(16, 16)").replace("epochs=10", "epochs=1")
    assert small != code
    monkeypatch.chdir(tmp_path)
    exec(compile(small, "README.md", "exec"), {})
    assert capsys.readouterr().out
    assert (tmp_path / "digits.h5").exists()


def test_it_is_short_and_its_files_exist(text):
    assert len(text.splitlines()) <= 200
    for path in re.findall(r"\]\(([\w./]+)\)|`((?:docs|bench|aaecore)/[\w./]+)`", text):
        assert (README.parent / (path[0] or path[1])).exists(), path
