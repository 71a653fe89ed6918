"""Completion in a real bash."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from vpr.commands import main as cli


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_and_options(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["vpr", "completion", "bash"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    (tmp_path / "vpr.bash").write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        line = " ".join(f'"{word}"' for word in words)
        code = f"source vpr.bash; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_vpr;"
        code += 'printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True)
        return {word.strip() for word in done.stdout.splitlines()}

    assert {"localize", "models", "export"} <= completed("vpr", "")
    assert completed("vpr", "loc") == {"localize"}
    assert {"--model", "--min-confidence"} <= completed("vpr", "localize", "--m")
