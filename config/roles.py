"""Roles and who has them: `rbac_roles.yaml` and `users.<env>.yaml`, validated."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from config import files
from config.files import ConfigError

#: Every permission there is; a role that names another is a typo.
PERMISSIONS = frozenset(
    {
        "knowledge.read",
        "rag.query",
        "results.read",
        "code.generate",
        "sql.execute",
        "sql.delete",
        "execution.approve",
        "knowledge.approve",
        "knowledge.manage",
        "model.promote",
        "agents.manage",
        "audit.read",
    }
)
EVERYTHING = "*"


class UnknownUser(LookupError):
    """Nobody has given this user a role. Remedy: add the user to the file that the message names."""


class Role(BaseModel):
    """What a role is for and what it may do; it inherits from no other. `bot`: of programs, which never decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    permissions: frozenset[str]
    bot: bool = False


class Roles:
    """Roles by name, and the users that have them. `users_file` is where a user is added; errors name it."""

    def __init__(
        self, roles: Mapping[str, Role], users: Mapping[str, str], users_file: str = "config/users.yaml"
    ) -> None:
        self.roles = dict(roles)
        self.users = dict(users)
        self.users_file = users_file

    @classmethod
    def load(cls, env: str = "dev") -> Roles:
        """Raises ConfigError naming the file and the entry."""
        document = files.yaml("rbac_roles.yaml")
        try:
            roles = {name: Role.model_validate(role) for name, role in document["roles"].items()}
        except (ValidationError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"rbac_roles.yaml: {error}") from error
        for name, role in roles.items():
            unknown = role.permissions - PERMISSIONS - {EVERYTHING}
            if unknown:
                raise ConfigError(
                    f"rbac_roles.yaml: role {name} names {', '.join(sorted(unknown))}, which is no permission; "
                    f"permissions are {', '.join(sorted(PERMISSIONS))}"
                )
        users_file = f"users.{env}.yaml"
        document = files.yaml(users_file)
        users = document.get("users") if isinstance(document, dict) else None
        if not isinstance(users, dict):
            raise ConfigError(f"{users_file}: expected the key `users` with a role for each name")
        for user, role_name in users.items():
            if role_name not in roles:
                raise ConfigError(f"{users_file}: {user} has the role {role_name}, which is not in rbac_roles.yaml")
            if user in roles:
                raise ConfigError(f"{users_file}: {user} has the name of a role, and would be taken for it")
        return cls(roles, users, files.where(users_file))

    def role_of(self, user: str) -> str:
        """Raises UnknownUser."""
        try:
            return self.users[user]
        except KeyError:
            known = ", ".join(sorted(self.users))
            raise UnknownUser(
                f"{user or 'nobody'} has no role; users are {known}. Users are added in {self.users_file}."
            ) from None

    def allows(self, user_or_role: str, permission: str) -> bool:
        """By the user's role, or by the role itself; False for unknown ones."""
        role = self.roles.get(self.users.get(user_or_role, user_or_role))
        return role is not None and (permission in role.permissions or EVERYTHING in role.permissions)

    def is_bot(self, user: str) -> bool:
        """Whether the user's role is that of a program; False for unknown ones."""
        role = self.roles.get(self.users.get(user, ""))
        return role is not None and role.bot
