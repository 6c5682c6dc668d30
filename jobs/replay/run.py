"""One replay, in this process: history through the crew, into the book, and a report."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from jobs.bootstrap import System
from jobs.replay.book import Book
from jobs.replay.crew import Crew, only
from jobs.replay.history import History
from jobs.replay.report import Finding, ReplayReport
from jobs.replay.request import ReplayRequest
from schemas.tables import AGENT_MESSAGES, REPLAYS
from workers.runtime.clock import micros
from workers.runtime.comparing import Comparison, compare

#: (messages done, messages in all)
Progress = Callable[[int, int], None]


async def replay(system: System, request: ReplayRequest, progress: Progress = lambda *_: None) -> ReplayReport:
    """Replay what is asked for, write the table `replays`, and report. Raises CannotReplay, UnknownAgent, ConfigError,
    or UnreadableArchive before anything was replayed."""
    now = micros(system.clock.now())
    source = system.log(AGENT_MESSAGES.name)
    table_id = source.check()
    history = History(source, system.accept(table_id), request, now, only(request))
    report = ReplayReport(f"rpl-{uuid.uuid4().hex[:12]}", history.version, discarded_to=history.discarded_to)
    table = system.log(REPLAYS.name)
    table.create()  # homes that are older than this table have none
    book = Book(table, report.replay_id, request.files, now)
    crew = Crew(system, request, system.trust(table_id), history.claims)
    try:
        progress(0, history.total)
        for done, recording in enumerate(history.recordings(), 1):
            recording = replace(recording, noted=crew.memory.recorded(recording))
            replayer = await crew.replayer(recording.agent)
            replayed = None if replayer is None else await replayer.replay(recording)
            if replayed is None:
                why = f"there is no code for {recording.agent} here; name it with --worker module:Class"
                comparison = Comparison("skipped", why, ())
            else:
                comparison = compare(recording, replayed, request.ignore)
            finding = Finding.of(recording, replayed, comparison)
            report.add(finding)
            report.from_archive += recording.from_archive
            book.add(finding, recording, replayed, crew.places.get(recording.agent, ""))
            progress(done, history.total)
    finally:
        book.write()
        await crew.close()
    return report
