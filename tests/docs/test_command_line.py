"""The commands of docs/how-to/command-line.md, run in the order of the page, print and write what it says."""

import re
import shlex
import shutil
import sys

import pytest

import fishertail
from fishertail.execution.command_line import cli
from tests.docs.code_blocks import ROOT, agree, printed

PAGE = ROOT / "docs/how-to/command-line.md"
COMMAND = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r"^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("my_net", "my_data"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(cli.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    printed(PAGE)
    outputs = []
    for command in COMMAND.findall(PAGE.read_text()):
        program, *arguments = shlex.split(command.replace("\\\n", " "))
        assert program == "fishertail"
        if "watched" in arguments:
            shutil.copytree("measured", "watched", dirs_exist_ok=True)
        assert cli.main(arguments) == 0
        outputs.append(capsys.readouterr().out)
    (shown,) = OUTPUT.findall(PAGE.read_text())
    assert agree(shown, outputs[0]), outputs[0]
    assert len(fishertail.RunAnalysis.load("of-a-subset").norms) == 4 * 200
    chosen = fishertail.RunAnalysis.load("chosen")
    assert chosen.spectrum["rank"].max() == 3
    assert set(chosen.tables["trimmed"]["step"]) == {0, 100}
    assert (tmp_path / "measured" / "page.html").exists()
