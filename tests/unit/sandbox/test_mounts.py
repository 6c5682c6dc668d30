from pathlib import Path

from workers.adapters.sandbox.mounts import aliases, mounts

TABLE = r"""22 1 254:0 / / rw,relatime - ext4 /dev/root rw
23 22 254:1 / /data rw shared:1 - ext4 /dev/b rw
24 22 254:1 /homes /srv/my\040homes rw - ext4 /dev/b rw
25 22 254:1 /homes/one/keys /vault rw - ext4 /dev/b rw
26 22 254:1 /other /other rw - ext4 /dev/b rw
27 22 0:30 / /tmp rw - tmpfs tmpfs rw
"""


def test_a_folder_is_found_under_every_mount_that_shows_it() -> None:
    found = set(aliases([Path("/data/homes/one")], mounts(TABLE)))

    assert found == {Path("/srv/my homes/one"), Path("/vault")}


def test_the_way_through_the_second_mount_leads_back_to_the_first() -> None:
    assert set(aliases([Path("/srv/my homes/one/keys")], mounts(TABLE))) == {
        Path("/data/homes/one/keys"),
        Path("/vault"),
    }


def test_another_file_system_or_another_part_of_it_is_no_alias() -> None:
    assert set(aliases([Path("/tmp/home"), Path("/usr/home"), Path("/data/x")], mounts(TABLE))) == set()


def test_the_own_mounts_can_be_read() -> None:
    assert set(aliases([Path("/nowhere/to/be/found")], mounts())) == set()
    assert mounts("") == []
