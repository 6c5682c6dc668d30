"""Where tables live: in the home's folder, or where the setting or init's note says; and what is no place at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bus.errors import StoreUnavailable, UnfitStore
from bus.home import Home
from bus.log.object_store import ObjectStore, check_url, open_store
from bus.log.store import LocalStore, Pace, within
from bus.log.table import DeltaLog
from config.settings import Settings
from jobs.bootstrap import System
from jobs.init_home import InitFailed, initialise
from schemas.tables import AGENT_MESSAGES


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account of the developer's is used, and no .env read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "nobody")
    monkeypatch.setenv("AWS_REGION", "nowhere")


def test_a_home_keeps_its_tables_unless_told_otherwise(tmp_path: Path) -> None:
    assert Home(tmp_path).table("x") == tmp_path / "tables" / "x"
    assert Home(tmp_path, "az://c/p").table("x") == "az://c/p/x"
    (tmp_path / "tables.url").write_text("s3://b/noted\n")
    assert Home(tmp_path).table("x") == "s3://b/noted/x"
    assert Home(tmp_path, "az://c/p").table("x") == "az://c/p/x"


def test_tables_do_not_move(tmp_path: Path) -> None:
    """Another place would be another bus under the same keys."""
    (tmp_path / "here" / "tables" / "agent_messages" / "_delta_log").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "tables.url").write_text("az://c/p\n")
    for home in ("here", "there"):
        system = System(Settings.load(home=str(tmp_path / home), tables="s3://b/p"))
        with pytest.raises(InitFailed, match=r"has its tables at .*, not at s3://b/p"):
            initialise(system, lambda _: None)
        assert not (tmp_path / home / "keys").exists()


def test_streaming_says_at_once_that_it_cannot_read_an_object_store(tmp_path: Path) -> None:
    elsewhere = System(Settings.load(home=str(tmp_path), tables="s3://b/p"))
    with pytest.raises(UnfitStore, match="--engine tail"):
        elsewhere.check_engine("streaming")
    elsewhere.check_engine("tail")
    System(Settings.load(home=str(tmp_path))).check_engine("streaming")


def test_the_settings_reach_the_store(tmp_path: Path) -> None:
    system = System(Settings.load(home=str(tmp_path), tables="s3://b/p/", poll_ms=20.0, idle_poll_ms=10.0))
    log = system.log(AGENT_MESSAGES.name)
    assert (log.uri, log.store.pace) == ("s3://b/p/agent_messages", Pace(0.02, 0.02))
    assert System(Settings.load(home=str(tmp_path), durability="disk")).log("audit_log").store.durability == "disk"


@pytest.mark.parametrize("place", ["tables", "/tmp/tables", "c:/tables"])
def test_a_folder_is_no_place_for_the_setting(place: str, tmp_path: Path) -> None:
    from config.files import ConfigError

    with pytest.raises(ConfigError, match="expected the URL of an object store"):
        Settings.load(home=str(tmp_path), tables=place)


@pytest.mark.parametrize("url", ["gs://b/p", "http://h/p", "s3:///p", "az://", "file:///p", "s4://b", "://b/p"])
def test_a_url_of_another_kind(url: str) -> None:
    with pytest.raises(UnfitStore, match="az://container/prefix"):
        open_store(url)


@pytest.mark.parametrize("url", ["az://c/p?sig=secret", "s3://key:secret@b/p", "az://c/p#x"])
def test_a_url_with_a_secret_in_it_is_not_taken_nor_repeated(url: str) -> None:
    with pytest.raises(UnfitStore) as caught:
        check_url(url)
    assert "secret" not in str(caught.value).replace("secrets belong", "")


@pytest.mark.parametrize(
    "url", ["az://c/p", "abfss://c@account.dfs.core.windows.net/p", "s3://b/p/", "s3a://b", "azure://c/deep/er"]
)
def test_urls_that_are_taken(url: str) -> None:
    store = open_store(url)
    assert isinstance(store, ObjectStore)
    assert store.uri == url.rstrip("/")
    assert (store.watched, store.lists_at_once) == (None, True)


def test_a_folder_is_a_local_store(tmp_path: Path) -> None:
    for place in (tmp_path / "t", str(tmp_path / "t")):
        log = DeltaLog(place, AGENT_MESSAGES)
        assert isinstance(log.store, LocalStore)
        assert (log.path, log.uri) == (tmp_path / "t", str(tmp_path / "t"))
    assert within(tmp_path, "t") == tmp_path / "t"
    assert within("s3://b/p/", "t") == "s3://b/p/t"


def test_what_needs_a_folder_says_so() -> None:
    with pytest.raises(UnfitStore, match="s3://b/p is in an object store"):
        _ = DeltaLog("s3://b/p", AGENT_MESSAGES).path


def test_a_file_system_without_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", no_links)
    with pytest.raises(UnfitStore, match="has no hard links"):
        DeltaLog(tmp_path, AGENT_MESSAGES).create()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_obstore_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(StoreUnavailable, match="pip install obstore"):
        open_store("s3://b/p")
