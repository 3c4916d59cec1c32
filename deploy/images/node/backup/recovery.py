"""Brings a folder that pgBackRest restored to where it can serve: starts PostgreSQL on it without any
network, waits for the end of recovery, and stops it cleanly. Used by a restore and by its rehearsal.
"""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import programs

# Settings that recovery needs as large as they were on the primary; Patroni gives them on the command
# line, so a restored configuration file does not have them. Source: Patroni, CMDLINE_OPTIONS in
# postgresql/config.py; PostgreSQL, CheckRequiredParameterValues in xlogrecovery.c.
FROM_CONTROL_FILE = {
    'max_connections setting': 'max_connections',
    'max_worker_processes setting': 'max_worker_processes',
    'max_wal_senders setting': 'max_wal_senders',
    'max_prepared_xacts setting': 'max_prepared_transactions',
    'max_locks_per_xact setting': 'max_locks_per_transaction',
    'wal_level setting': 'wal_level',
    'track_commit_timestamp setting': 'track_commit_timestamp',
}

RECOVERY_SETTINGS = (
    'restore_command', 'archive_cleanup_command', 'recovery_end_command', 'recovery_target',
    'recovery_target_action', 'recovery_target_inclusive', 'recovery_target_lsn',
    'recovery_target_name', 'recovery_target_time', 'recovery_target_timeline',
    'recovery_target_xid', 'primary_conninfo', 'primary_slot_name',
)

STOP_SECONDS = 300


class RecoveryError(Exception):
    """PostgreSQL could not be brought out of recovery; the text says why."""


@dataclasses.dataclass
class Server:
    """PostgreSQL on `folder`, reachable only through a socket in a folder of its own."""

    folder: Path
    process: subprocess.Popen
    sockets: Path
    log: Path

    @property
    def connection(self) -> str:
        return f'host={self.sockets} user=postgres dbname=postgres connect_timeout=10'

    def sql(self, statement: str, seconds: int = programs.ASK_SECONDS) -> str:
        return programs.psql(self.connection, statement, seconds)


def start(folder: Path, settings: dict[str, str], held: Sequence[int] = ()) -> Server:
    """Starts PostgreSQL and returns at once. `settings` come after ours and win; the file descriptors
    `held` (of locks) stay open for as long as it lives."""
    sockets = Path(tempfile.mkdtemp(prefix='recovery-'))
    # Whoever runs this program may log in, through a folder that nobody else can enter.
    hba = sockets / 'hba.conf'
    hba.write_text('local all all trust\n')
    control = programs.control_data(folder)
    own = {
        'listen_addresses': '',
        'unix_socket_directories': str(sockets),
        'hba_file': str(hba),
        'ident_file': '/dev/null',
        'ssl': 'off',
        'logging_collector': 'off',
        'log_destination': 'stderr',
        'log_min_messages': 'warning',
        'cluster_name': 'restored',
        # Of the member's memory, which the container of this work need not have; nor its /dev/shm.
        'shared_buffers': '256MB',
        'huge_pages': 'off',
        'dynamic_shared_memory_type': 'mmap',
        'synchronous_standby_names': '',
        # With it, recovery would pause for ever at a change of max_connections in the WAL.
        'hot_standby': 'off',
        'restore_command': _fetching(folder),
        **{name: control[key] for key, name in FROM_CONTROL_FILE.items() if key in control},
        **settings,
    }
    arguments = [f'--{name}={value}' for name, value in own.items()]
    folder.chmod(0o700)
    log = sockets / 'log'
    with log.open('wb') as sink:
        process = subprocess.Popen(
            [str(programs.BIN / 'postgres'), '-D', str(folder), *arguments],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, pass_fds=held,
            env={**os.environ, 'LC_ALL': 'C.UTF-8'},
        )
    return Server(folder, process, sockets, log)


def wait_until_promoted(server: Server, seconds: int) -> None:
    """Returns when the server takes writes."""
    for _ in _patience(server, seconds):
        if _is_promoted(server):
            return
        if server.process.poll() is not None:
            raise RecoveryError('PostgreSQL ended during recovery: ' + last_words(server))


def wait_until_reached(server: Server, seconds: int) -> int:
    """Returns where replay has stopped, for a server that shuts down at its target."""
    for _ in _patience(server, seconds):
        if server.process.poll() is not None:
            break
    control = programs.control_data(server.folder)
    if server.process.returncode != 0 or control.get('Database cluster state') != 'shut down in recovery':
        raise RecoveryError('PostgreSQL ended before the target: ' + last_words(server))
    return programs.parse_lsn(control['Minimum recovery ending location'])


def _patience(server: Server, seconds: int) -> Iterator[None]:
    """Twice a second until `seconds` are over. What the server replays is printed every half minute: hours of
    WAL take a while, and silence looks like a fault."""
    deadline = time.monotonic() + seconds
    told = time.monotonic()
    while time.monotonic() < deadline:
        yield
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f'recovery goes on: {_log(server)[-1:]}', flush=True)
        time.sleep(0.5)
    raise RecoveryError(f'recovery did not end within {seconds} s: ' + last_words(server))


def last_transaction(server: Server) -> str | None:
    """When the last transaction that was replayed had committed, as PostgreSQL's log has it."""
    found = [re.search(r'last completed transaction was at log time (.+)$', row) for row in _log(server)]
    times = [match[1] for match in found if match]
    return times[-1] if times else None


def stop(server: Server) -> None:
    """A clean stop: what is on disk needs no recovery. Errors RecoveryError when it was none."""
    server.process.send_signal(signal.SIGINT)
    try:
        server.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RecoveryError(f'PostgreSQL did not stop within {STOP_SECONDS} s') from error
    state = programs.control_data(server.folder).get('Database cluster state')
    if state != 'shut down':
        raise RecoveryError(f'PostgreSQL left its files "{state}": ' + last_words(server))


def discard(server: Server | None) -> None:
    """Ends the server however it is, and removes its sockets and its log. May be called twice."""
    if server is None:
        return
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGQUIT)
        try:
            server.process.wait(30)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait(30)
    shutil.rmtree(server.sockets, ignore_errors=True)


def forget_recovery(server: Server) -> None:
    """Takes out of the configuration what pgBackRest wrote for this recovery alone."""
    for name in RECOVERY_SETTINGS:
        server.sql(f'alter system reset {name}')
    server.sql('alter system reset archive_mode')


def last_words(server: Server) -> str:
    """Why PostgreSQL does not go on, in its own words: errors if there are some, else the last lines."""
    # Who asks whether it is ready is refused with FATAL as well.
    asked = re.compile('starting up|not accepting connections|not yet accepting|Hot standby mode is disabled')
    rows = [row for row in _log(server) if not asked.search(row)]
    grave = [row for row in rows if re.search(r'\b(FATAL|PANIC|ERROR):', row)]
    words = (grave or rows)[-3:]
    for row in rows[-40:]:
        print(f'  postgres: {row}', file=sys.stderr)
    return ' / '.join(words) or 'it said nothing'


def _fetching(folder: Path) -> str:
    """pgBackRest says 1 for a file that is not in the archive, which ends recovery, and more for what went
    wrong, which PostgreSQL would take for the same: it would promote with half of the WAL. Codes above 125
    stop it instead."""
    command = f'pgbackrest --pg1-path="{folder}" archive-get %f "%p"'
    return f'{command}; code=$?; if [ $code -gt 1 ]; then exit 255; fi; exit $code'


def _log(server: Server) -> list[str]:
    return server.log.read_text(errors='replace').splitlines() if server.log.exists() else []


def _is_promoted(server: Server) -> bool:
    """Without hot standby nobody is let in before the end of recovery."""
    try:
        return server.sql('select pg_is_in_recovery()') == 'f'
    except programs.ProgramError:
        return False
