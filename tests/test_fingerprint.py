"""What is kept is found again by the same rows, settings and code, and by no others."""

from pathlib import Path

import pytest

from salon import fingerprint as module
from salon.evaluation.results_cache import ResultsCache
from salon.fingerprint import KEY_DIGITS, fingerprint


def test_settings_files_and_code_each_change_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, code = tmp_path / "rows", tmp_path / "salon"
    for folder in (rows, code / "judging"):
        folder.mkdir(parents=True)
        (folder / "a").write_text("1", encoding="utf-8")
    monkeypatch.setattr(module, "PACKAGE", code)

    def key(setting: int = 1) -> str:
        return fingerprint([setting], files=[rows], sources=["judging"])

    first = key()
    assert key() == first
    assert key(2) != first
    (rows / "a").write_text("2", encoding="utf-8")
    second = key()
    assert second != first

    # edited while this process runs: it goes on with the code that it has, a new process finds nothing
    (code / "judging" / "a").write_text("2", encoding="utf-8")
    assert key() == second
    module._digest_code.cache_clear()
    assert key() not in (first, second)


def test_a_finished_evaluation_leaves_nothing_of_its_own_and_all_of_others(tmp_path: Path) -> None:
    old, new, other = "0" * KEY_DIGITS, "f" * KEY_DIGITS, "a" * KEY_DIGITS
    killed = ResultsCache(tmp_path, "gan", key=old)  # before its weights changed
    finished = ResultsCache(tmp_path, "gan", key=new)
    elsewhere = ResultsCache(tmp_path, "gan-large", key=other)
    for progress in (killed, finished, elsewhere):
        assert progress.figures("speed", lambda: 1) == 1
        assert progress.figures("speed", lambda: 2) == 1
    finished.discard()
    assert list(tmp_path.iterdir()) == [elsewhere.folder]
