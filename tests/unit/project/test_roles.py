from pathlib import Path

import pytest

from config.files import ConfigError
from config.roles import PERMISSIONS, Role, Roles, UnknownUser


@pytest.fixture
def roles() -> Roles:
    return Roles.load()


def allowed(roles: Roles, who: str) -> set[str]:
    return {permission for permission in PERMISSIONS if roles.allows(who, permission)}


def test_the_sample_users_have_their_roles(roles: Roles) -> None:
    found = {user: roles.role_of(user) for user in ("ana", "eli", "kim", "ada")}
    assert found == {"ana": "data_analyst", "eli": "data_engineer", "kim": "knowledge_curator", "ada": "admin"}


def test_an_admin_may_do_everything(roles: Roles) -> None:
    assert allowed(roles, "ada") == PERMISSIONS


def test_an_engineer_generates_and_executes_but_neither_deletes_nor_promotes(roles: Roles) -> None:
    assert allowed(roles, "eli") == {"knowledge.read", "rag.query", "results.read", "code.generate", "sql.execute"}


def test_an_analyst_reads_and_asks_only(roles: Roles) -> None:
    assert allowed(roles, "ana") == {"knowledge.read", "rag.query", "results.read"}


def test_a_curator_approves_and_manages_knowledge_only(roles: Roles) -> None:
    assert allowed(roles, "kim") == {"knowledge.read", "rag.query", "knowledge.approve", "knowledge.manage"}


def test_only_an_admin_approves_executions(roles: Roles) -> None:
    assert [name for name in roles.roles if roles.allows(name, "execution.approve")] == ["admin"]


def test_a_role_can_be_asked_like_a_user(roles: Roles) -> None:
    assert roles.allows("data_engineer", "sql.execute")
    assert not roles.allows("data_analyst", "sql.execute")


def test_nobody_may_do_anything(roles: Roles) -> None:
    assert allowed(roles, "mallory") == set()
    assert allowed(roles, "") == set()


def test_an_unknown_user_is_told_who_is_known_and_where_to_add_one(roles: Roles) -> None:
    with pytest.raises(
        UnknownUser, match=r"mallory has no role; users are ada, ana, eli, kim\..*config/users\.dev\.yaml"
    ):
        roles.role_of("mallory")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "rbac_roles.yaml",
            "roles: {r: {description: d, permissions: [sql.exec]}}",
            "role r names sql.exec.*sql.execute",
        ),
        ("rbac_roles.yaml", "roles: {r: {description: d}}", "permissions"),
        ("rbac_roles.yaml", "roles: {r: {description: d, permissions: [], inherits: admin}}", "inherits"),
        ("rbac_roles.yaml", "{}", "roles"),
        ("users.dev.yaml", "users: {bo: boss}", "bo has the role boss"),
        ("users.dev.yaml", "users: {admin: data_analyst}", "admin has the name of a role"),
        ("users.dev.yaml", "users: {bo: admin, bo: data_analyst}", "'bo' is there twice"),
        ("users.dev.yaml", "people: {bo: admin}", "expected the key `users`"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    name: str, content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text(content)
    monkeypatch.setenv("TAILRACE_CONFIG", str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        Roles.load()


def test_a_role_may_be_that_of_programs(roles: Roles) -> None:
    robot = Role(description="Proposes.", permissions=frozenset({"execution.approve"}), bot=True)
    with_robot = Roles({**roles.roles, "robot": robot}, {**roles.users, "rob": "robot"})
    assert [user for user in (*with_robot.users, "nobody", "robot") if with_robot.is_bot(user)] == ["rob"]
