"""The README: its example runs as it stands, with smaller numbers, and it stays short. The map of modules is whole."""

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


def test_the_map_of_modules_is_whole():
    """docs/architecture.md names every module beside its room, but for the families of ops."""
    page = (README.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = re.split(r"\n  (?=\w+/ )", page.split("```")[1].split("\nkernels/")[0])
    told = {room.split("/")[0]: room for room in rooms}
    for path in (README.parent / "aaecore").glob("*/*.py"):
        room = path.parent.name
        if not path.stem.startswith("__"):
            assert re.search(rf"\b{path.stem}\b", told[room]), f"{room}/{path.name}"
