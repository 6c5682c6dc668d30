import os
import threading
from pathlib import Path

import pytest

from workers.adapters.sandbox import landlock
from workers.adapters.sandbox.landlock import READ, Rule, rules_around


def readable(root: Path, *denied: Path) -> set[str]:
    return {str(Path(rule.path).relative_to(root)) for rule in rules_around(denied, root)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("bin", "data/home/keys", "data/home/warehouse/x", "data/other", "data/homes", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data" / "file").write_text("x")
    (tmp_path / "data" / "home" / "file").write_text("x")
    (tmp_path / "way_in").symlink_to(tmp_path / "data" / "home")
    return tmp_path


def test_siblings_along_the_way_are_readable_and_never_the_way_itself(root: Path) -> None:
    assert readable(root, root / "data" / "home") == {"bin", "data/file", "data/other", "data/homes", "empty"}


def test_inside_the_home_siblings_of_what_is_denied_are_left(root: Path) -> None:
    assert readable(root, root / "data" / "home" / "keys") >= {"data/home/warehouse", "data/home/file", "data/other"}
    assert "data/home" not in readable(root, root / "data" / "home" / "keys")


def test_a_link_never_gets_a_rule(root: Path) -> None:
    """The rule would hold for what it points at."""
    assert "way_in" not in readable(root, root / "data" / "home")


def test_denying_through_a_link_denies_what_it_points_at(root: Path) -> None:
    assert readable(root, root / "way_in") == readable(root, root / "data" / "home")


def test_a_denied_file_is_left_out_alone(root: Path) -> None:
    assert readable(root, root / "data" / "file") == {"bin", "data/home", "data/other", "data/homes", "empty"}


def test_every_rule_reads_and_none_writes(root: Path) -> None:
    assert {rule.rights for rule in rules_around([root / "data" / "home"], root)} == {READ}
    assert not READ & landlock.WRITE_FILE


def test_devices_processes_and_kernel_memory_are_no_files_like_others(tmp_path: Path) -> None:
    paths = {rule.path for rule in rules_around([tmp_path])}

    assert not any(path == "/dev" or path.startswith("/dev/") for path in paths)
    assert not paths & {"/", "/proc", "/proc/kcore", "/proc/self", f"/proc/{os.getpid()}", "/tmp"}


@pytest.mark.parametrize(
    ("abi", "has", "has_not"),
    [(1, landlock.MAKE_SYM, landlock.REFER), (2, landlock.REFER, landlock.TRUNCATE), (3, landlock.TRUNCATE, landlock.IOCTL_DEV),
     (4, landlock.TRUNCATE, landlock.IOCTL_DEV), (5, landlock.IOCTL_DEV, 0), (9, landlock.IOCTL_DEV, 0)],
)  # fmt: skip
def test_an_older_kernel_is_asked_only_for_what_it_knows(abi: int, has: int, has_not: int) -> None:
    assert landlock.handled_rights(abi) & has
    assert not landlock.handled_rights(abi) & has_not


def test_writing_means_neither_links_nor_devices_nor_programs() -> None:
    refused = landlock.MAKE_SYM | landlock.MAKE_CHAR | landlock.MAKE_BLOCK | landlock.MAKE_SOCK | landlock.EXECUTE

    assert not landlock.WRITE & refused


@pytest.mark.skipif(not landlock.available(), reason="this kernel has no Landlock")
def test_it_refuses_when_another_thread_would_stay_free() -> None:
    go_on = threading.Event()
    other = threading.Thread(target=go_on.wait)
    other.start()
    try:
        with pytest.raises(landlock.LandlockError, match="threads"):
            landlock.restrict([Rule("/", READ)])
    finally:
        go_on.set()
        other.join()


def test_without_landlock_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock.sys, "platform", "darwin")  # the one fact that no test machine can change

    assert landlock.abi() == 0
    assert not landlock.available()
    with pytest.raises(landlock.LandlockError, match="no Landlock"):
        landlock.restrict([])
