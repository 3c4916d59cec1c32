"""What Prometheus is told of backups and rehearsals, besides what pgbackrest_exporter says of the sets:
whether the schedule runs. The numbers are read when asked for, from files that outlive the container.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from . import trial

RUNS = trial.STATE / 'runs.json'


# As the file has it, or would have it if the disk were not full: then above all failures must be told.
_known: dict[str, dict] = {}


def runs() -> dict[str, dict]:
    if not _known:
        try:
            _known.update(json.loads(RUNS.read_text()))
        except (OSError, ValueError):
            return {}
    return _known


def write_down(kind: str, *, succeeded: bool) -> None:
    """The end of one scheduled run."""
    runs()
    entry = _known.setdefault(kind, {})
    if succeeded:
        entry['last_success'] = time.time()
    else:
        entry['failures'] = entry.get('failures', 0) + 1
    try:
        Path(RUNS.parent).mkdir(parents=True, exist_ok=True)
        fresh = RUNS.with_name(f'{RUNS.name}.new')
        fresh.write_text(json.dumps(_known))
        fresh.replace(RUNS)
    except OSError as error:
        print(f'repository: {RUNS} cannot be written: {error}', flush=True)


class Collector:
    """A collector of prometheus_client. `is_ready` says whether the last check of the stanza passed."""

    def __init__(self) -> None:
        self.is_ready = False
        self._stanza = os.environ['CLUSTER']

    def collect(self) -> Iterator[Metric]:
        yield self._gauge(
            'pg_backup_stanza_ready', 'Whether the last check of archiving and repository passed.', float(self.is_ready),
        )
        yield from self._of_runs()
        yield from self._of_trials()

    def _of_runs(self) -> Iterator[Metric]:
        last = GaugeMetricFamily(
            'pg_backup_run_last_success_timestamp_seconds', 'When a run of that kind last succeeded.',
            labels=['stanza', 'type'],
        )
        failures = CounterMetricFamily(
            'pg_backup_run_failures', 'Runs of that kind that failed.', labels=['stanza', 'type'],
        )
        for kind, entry in list(runs().items()):
            if 'last_success' in entry:
                last.add_metric([self._stanza, kind], entry['last_success'])
            failures.add_metric([self._stanza, kind], entry.get('failures', 0))
        yield last
        yield failures

    def _of_trials(self) -> Iterator[Metric]:
        known = trial.results()
        for key, name, about in (
            ('last_success', 'pg_restore_test_last_success_timestamp_seconds', 'When a restore test last passed.'),
            ('last_run', 'pg_restore_test_last_run_timestamp_seconds', 'When a restore test last ended.'),
            ('duration', 'pg_restore_test_duration_seconds', 'How long the last restore test that passed took.'),
        ):
            if key in known:
                yield self._gauge(name, about, known[key])
        failures = CounterMetricFamily('pg_restore_test_failures', 'Restore tests that failed.', labels=['stanza'])
        failures.add_metric([self._stanza], known.get('failures', 0))
        yield failures

    def _gauge(self, name: str, about: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, about, labels=['stanza'])
        family.add_metric([self._stanza], value)
        return family
