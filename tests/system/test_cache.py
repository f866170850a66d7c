from pathlib import Path

import pytest

from headstart.system.cache import cache_dir, replacing


def test_own_variable_comes_before_the_desktops_and_that_before_home(monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_dir("a", "b") == Path("/one/a/b")
    monkeypatch.delenv("HEADSTART_CACHE")
    assert cache_dir("a") == Path("/two/headstart/a")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/three")
    assert cache_dir() == Path("/three/.cache/headstart")


def test_file_takes_its_place_only_if_all_went_well(tmp_path):
    path = tmp_path / "deep" / "file"
    with replacing(path) as draft:
        draft.write_text("first")
        assert not path.exists()

    def fail():
        with replacing(path) as draft:
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
