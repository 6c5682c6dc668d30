from pathlib import Path

import pytest

from bus.streaming import jars


def forged(folder: Path) -> Path:
    """All JARs under their right names, none with the right content."""
    folder.mkdir()
    for artifact in jars.CHECKSUMS:
        (folder / f"io.delta_{artifact}-{jars.DELTA_VERSION}.jar").write_bytes(b"not a JAR")
    return folder


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAILRACE_JARS", str(tmp_path))
    assert jars.jars_folder() == tmp_path


def test_missing_jars_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(jars.JarsMissing, match=r"io\.delta_delta-storage-.*make setup"):
        jars.jar_paths(tmp_path)


def test_a_jar_with_another_content_is_refused_with_both_checksums(tmp_path: Path) -> None:
    with pytest.raises(
        jars.JarsMissing, match=r"is not the pinned delta-kernel-api: sha256 is \w{64}, expected \w{64}"
    ):
        jars.verify(forged(tmp_path / "jars"))


def test_what_was_fetched_is_verified_before_it_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The download is replaced: a unit test asks no network.
    monkeypatch.setattr(jars, "download", lambda work: forged(work / "jars"))
    with pytest.raises(jars.JarsMissing, match="is not the pinned"):
        jars.fetch(tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_failed_download_says_what_java_said_and_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'Server access error'; exit 1\n")
    java.chmod(0o755)
    monkeypatch.setattr(jars, "java_executable", lambda: java)  # stands for a machine behind a proxy
    with pytest.raises(jars.JarsMissing, match=r"(?s)Server access error.*TAILRACE_IVY_SETTINGS"):
        jars.download(tmp_path)


def test_the_pinned_release_is_the_one_that_pip_installs() -> None:
    from importlib.metadata import version

    assert version("delta-spark") == jars.DELTA_VERSION
