"""What dramatiq's command imports in its worker processes; it takes no arguments, so two variables say where things are."""

from __future__ import annotations

import os

from jobs.bench.rivals.dramatiq_queue import make_actor
from jobs.bench.work import Reporter

ping = make_actor(os.environ["BENCH_REDIS"], Reporter(os.environ["BENCH_REPORTS"]))
