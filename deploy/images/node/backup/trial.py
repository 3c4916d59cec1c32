"""The rehearsal of a restore: the newest backup is restored into an empty folder, recovered to the end
of the WAL that is archived, read in full by pg_amcheck, and thrown away. A backup that nobody restored
is a hope; this makes it a fact once a week. It never touches the cluster, and archives nothing.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from . import programs, recovery

SCRATCH = Path(os.environ.get('RESTORE_TEST_FOLDER', '/var/lib/restore-test'))
STATE = Path(os.environ.get('BACKUP_STATE_FOLDER', '/var/lib/pgbackrest/state'))
HOURS = int(os.environ.get('RESTORE_TEST_HOURS', '12'))

# WAL to replay, and what recovery writes besides the files of the backup.
SPACE_FACTOR = 1.2
SPACE_BYTES = int(os.environ.get('RESTORE_TEST_SPARE_BYTES', 1 << 30))


class TrialError(Exception):
    """The rehearsal failed: the backups may be of no use. The text says at what."""


def run(repository: int | None = None) -> None:
    """One rehearsal, whose end is written down either way. TrialError when it failed."""
    started = time.time()
    try:
        said = _rehearse(repository)
    except (TrialError, programs.ProgramError, recovery.RecoveryError, OSError) as error:
        _write_down({'last_run': time.time(), 'last_error': str(error)}, failed=True)
        raise TrialError(str(error)) from error
    seconds = time.time() - started
    _write_down({'last_run': time.time(), 'last_success': time.time(), 'duration': seconds, 'last_error': None, **said})
    print(f'restore test: passed in {seconds:.0f} s: {json.dumps(said)}', flush=True)


def results() -> dict:
    """What is written down of the rehearsals so far; empty before the first."""
    try:
        return json.loads((STATE / 'restore-test.json').read_text())
    except (OSError, ValueError):
        return {}


def _rehearse(repository: int | None) -> dict:
    found = [one for one in programs.backups() if repository in (None, one.repository)]
    backup = programs.newest_backup(found)
    if backup is None:
        raise TrialError('there is no backup to restore')
    with _scratch() as folder:
        _need_space(backup)
        server = None
        print(f'restore test: backup {backup.label} of repository {backup.repository}', flush=True)
        _pgbackrest(
            folder, f'--set={backup.label}', f'--repo={backup.repository}',
            '--type=default', '--archive-mode=off', f'--tablespace-map-all={folder}.tablespaces', 'restore',
        )
        try:
            # Never may a rehearsal archive: its time line would stand in the way of the real one.
            server = recovery.start(folder, {'archive_mode': 'off', 'fsync': 'off', 'archive_command': ''})
            recovery.wait_until_promoted(server, HOURS * 3600)
            said = _examine(server)
            recovery.stop(server)
        finally:
            recovery.discard(server)
    _verify(backup.repository)
    return {'backup': backup.label, **said}


def _examine(server: recovery.Server) -> dict:
    """Every database is asked, and every table and index of it is read."""
    names = server.sql("select datname from pg_database where datallowconn order by 1").splitlines()
    if not names:
        raise TrialError('the restored cluster has no database')
    for name in names:
        programs.psql(f"{server.connection} dbname='{name}'", 'select count(*) from pg_class')
    command = [
        str(programs.BIN / 'pg_amcheck'), '--all', '--install-missing', '--heapallindexed', '--no-password',
        f'--host={server.sockets}', '--username=postgres', '--jobs=2',
    ]
    programs.ask(command, HOURS * 3600)
    return {
        'databases': len(names),
        'bytes': int(server.sql('select sum(pg_database_size(oid)) from pg_database')),
        'last_transaction': recovery.last_transaction(server),
    }


def _verify(repository: int) -> None:
    """Every file of the repository against its checksum: also those that no restore read today."""
    said = programs.ask(
        ['pgbackrest', '--log-level-console=off', f'--repo={repository}', '--output=text', '--verbose', 'verify'],
        HOURS * 3600,
    )
    if 'status: ok' not in said:
        raise TrialError('pgbackrest verify: ' + ' / '.join(said.strip().splitlines()[:8]))


def _pgbackrest(folder: Path, *arguments: str) -> None:
    """A restore into the folder of the rehearsal. The repository host has no data folder of its own, and
    pgBackRest would refuse to restore to the members it knows: none of them is named here."""
    environment = local_environment(folder)
    code = subprocess.call(['pgbackrest', *arguments], env=environment)
    if code != 0:
        raise TrialError(f'pgbackrest restore ended with {code}')
    # PostgreSQL's restore_command inherits it.
    os.environ.clear()
    os.environ.update(environment)


def local_environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith('PGBACKREST_PG')}
    return {**kept, 'PGBACKREST_PG1_PATH': str(folder)}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """An empty folder that nobody else uses, empty again afterwards: also what a rehearsal left that was
    killed goes."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with (SCRATCH / '.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrialError('another restore test is running') from error
        folder = SCRATCH / 'pgdata'
        _empty(folder)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _empty(folder)


def _empty(folder: Path) -> None:
    for one in (folder, folder.with_name(f'{folder.name}.tablespaces')):
        shutil.rmtree(one, ignore_errors=True)


def _need_space(backup: programs.Backup) -> None:
    free = shutil.disk_usage(SCRATCH).free
    need = int(backup.size * SPACE_FACTOR) + SPACE_BYTES
    if free < need:
        raise TrialError(
            f'{SCRATCH} has {free >> 20} MiB free and the restore of {backup.label} needs {need >> 20} MiB',
        )


def _write_down(said: dict, *, failed: bool = False) -> None:
    """Results outlive the container. A disk too full to write them down must not hide the reason."""
    known = results()
    known['failures'] = known.get('failures', 0) + (1 if failed else 0)
    known.update(said)
    with contextlib.suppress(OSError):
        STATE.mkdir(parents=True, exist_ok=True)
        fresh = STATE / 'restore-test.json.new'
        fresh.write_text(json.dumps(known))
        fresh.replace(STATE / 'restore-test.json')
