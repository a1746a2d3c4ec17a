"""The command `completion`: bash itself completes by the script."""

import shutil
import subprocess
import sys

import pytest

from jaxhlm.cli.main import main

# What bash has when the words are typed and the tab key is pressed.
TAB = """
source ./completions.bash
COMP_WORDS=(jaxhlm "$@"); COMP_CWORD=$#
$(complete -p jaxhlm | sed 's/.*-F \\([^ ]*\\).*/\\1/') jaxhlm "${@: -1}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shell")
    for name in ("data.csv", "described.toml"):
        (path / name).touch()
    (path / "drawn").mkdir()
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="runs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["b"], ["bootstrap"]),
        (["fit", "--df", "k"], ["kenward-roger"]),
        (["power", "--sig"], ["--sigma"]),
        (["fit", "y ~ x + (1 | g)", "d"], ["data.csv", "described.toml", "drawn"]),
        (["study", "described.toml", "--out", "d"], ["drawn"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes(folder, capsys, words, completed):
    assert main(["completion", "bash"]) == 0
    (folder / "completions.bash").write_text(capsys.readouterr().out)
    ran = subprocess.run(
        ["bash", "--norc", "-c", TAB, "bash", *words], cwd=folder, capture_output=True, text=True
    )
    assert ran.stderr == ""
    assert sorted({line.strip() for line in ran.stdout.splitlines()}) == completed


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_of_theirs(folder, capsys, shell):
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert "kenward-roger" in printed and "jaxhlm" in printed
    if shutil.which(shell):
        ran = subprocess.run([shell, "-n"], input=printed, capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")


def test_what_is_to_be_installed_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    said = capsys.readouterr().err
    assert said == 'jaxhlm: completion needs shtab: pip install "jaxhlm[completion]"\n'
