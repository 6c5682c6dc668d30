"""Random histories as writers leave them who decide on what they saw a moment ago: every race, and some rows of strangers."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from bus.fold import State, valid_rows
from schemas.envelope import EVERYONE, Message
from schemas.payloads import ExecutionClaimed, InstanceChanged, Receipt

AGENTS = ("A", "B")
MINUTE = 60_000_000


class History:
    """Commits, and what a writer knows who has seen all but the last `behind` of them."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.commits: list[list[Message]] = []
        self.ids = 0

    def known(self) -> State:
        behind = self.draw(st.integers(0, 2))
        state = State()
        for commit in self.commits[: len(self.commits) - behind]:
            state.absorb(commit)
        return state

    def add(self, rows: list[Message]) -> None:
        """As a commit of its own, or behind what another submitted to the same one."""
        if self.commits and self.draw(st.integers(0, 4)) == 0:
            rows = [*self.commits.pop(), *rows]
        version = len(self.commits) + 1
        self.commits.append([m.model_copy(update={"log_version": version, "seq": n}) for n, m in enumerate(rows)])

    def row(self, message_id: str | None = None, **envelope: Any) -> Message:
        self.ids += 1
        return Message(
            **{
                "message_id": message_id or f"m{self.ids}",
                "correlation_id": f"c{self.ids % 3}",
                "from_agent": "user:eli",
                "to_agent": "A",
                "message_type": "request",
                "kind": "Ping",
                "content": "{}",
                "timestamp": 1_767_225_600_000_000 + self.ids * MINUTE // 4,
                "principal": "eli",
                **envelope,
            }
        )

    def event(self, sender: str, kind: str, content: str = "{}", **envelope: Any) -> Message:
        return self.row(
            from_agent=sender, to_agent=EVERYONE, message_type="event", kind=kind, content=content, **envelope
        )

    def receipt(self, message_id: str, agent: str, conversation: str = "c0") -> Message:
        self.ids += 1
        said = Receipt(
            outcome=self.draw(st.sampled_from(["handled", "handled", "rejected", "dead"])),
            handled_ms=self.ids % 7 + 0.5,
        )
        return self.row(
            f"h{self.ids}",
            correlation_id=conversation,
            causation_id=message_id,
            from_agent=agent,
            to_agent="",
            message_type="receipt",
            kind="Receipt",
            content=said.model_dump_json(),
            handling_id=f"h{self.ids}",
        )

    # --- what happens ------------------------------------------------------------------------------------------------

    def send(self) -> None:
        to = self.draw(st.sampled_from([*AGENTS, EVERYONE, "user:ada", ""]))
        kind = self.draw(st.sampled_from(["Rang", "Ping"]))
        old = [m.message_id for commit in self.commits for m in commit if m.from_agent == "user:eli"]
        again = self.draw(st.sampled_from([None, None, *old[-3:]]))
        self.add([self.row(again, to_agent=to, kind=kind, message_type="event" if to == EVERYONE else "request")])

    def handle(self) -> None:
        """By an instance that believes the message is open; another may have been faster."""
        waiting = list(self.known().open.items())
        if not waiting:
            return
        (message_id, agent), message = self.draw(st.sampled_from(waiting))
        receipt = self.receipt(message_id, agent, message.correlation_id)
        outputs = [
            # Derived from its cause, as the runner does it: the slower one says the same under the same id.
            self.row(
                f"{message_id}/{agent}/{place}",
                correlation_id=message.correlation_id,
                causation_id=message_id,
                from_agent=agent,
                to_agent=self.draw(st.sampled_from(["A", "B", "user:eli", EVERYONE])),
                message_type="request",
                handling_id=receipt.handling_id,
            )
            for place in range(self.draw(st.integers(0, 2)))
        ]
        outputs = [m.model_copy(update={"message_type": "event"}) if m.to_agent == EVERYONE else m for m in outputs]
        self.add([receipt, *outputs])

    def meddle(self) -> None:
        """What no writer of ours does: a receipt of somebody else, or for nothing; an output without a receipt."""
        match self.draw(st.integers(0, 2)):
            case 0:
                # Of what counts: rows that hang on rows that do not are followed by the fold alone, as the view says.
                every = [m.message_id for m in valid_rows(m for commit in self.commits for m in commit)] or ["nothing"]
                self.add([self.receipt(self.draw(st.sampled_from(every)), "Stranger")])
            case 1:
                self.add([self.receipt("unheard-of", "A")])
            case _:
                self.add([self.row(handling_id="h-nobodys")])

    def claim(self) -> None:
        grant = self.draw(st.sampled_from(["g1", "g2"]))
        said = ExecutionClaimed(
            grant_id=grant, requester="eli", question="q", code="c", target=None, approved_by="ada", instance="i"
        )
        content = self.draw(st.sampled_from([said.model_dump_json(), said.model_dump_json(), "no json"]))
        self.add([self.event("ExecutionAgent", "ExecutionClaimed", content)])

    def lease(self) -> None:
        """An instance starts or stops, renews what it knows, or is ended by what another knows."""
        known = self.known()
        step = self.draw(st.sampled_from(["started", "renewed", "renewed", "ended", "stopped"]))
        if step == "started" or not known.leases:
            agent, instance, number, step = self.draw(st.sampled_from(AGENTS)), f"i{self.ids}", 0, "started"
        else:
            instance = self.draw(st.sampled_from(sorted(known.leases)))
            newest = InstanceChanged.model_validate_json(known.leases[instance].content)
            agent, number = newest.agent, newest.number + (step == "renewed")
        said = InstanceChanged(
            agent=agent,
            instance=instance,
            host="h",
            engine="tail",
            step=step,
            kinds=["Ping"],
            number=number,
            subscribes=self.draw(st.sampled_from([[], ["Rang"], ["Ping", "Rang"]])),
        )
        self.add([self.event(agent, "InstanceChanged", said.model_dump_json())])


@st.composite
def histories(draw: st.DrawFn, steps: int = 25) -> list[list[Message]]:
    history = History(draw)
    what = [history.send, history.handle, history.handle, history.meddle, history.claim, history.lease]
    for _ in range(draw(st.integers(1, steps))):
        draw(st.sampled_from(what))()
    return history.commits
