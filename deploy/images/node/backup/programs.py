"""pgBackRest and PostgreSQL's programs as functions: what backups there are, which one a moment is
restored from, what is in a control file. Nothing here changes anything.
"""

import dataclasses
import datetime
import json
import os
import re
import subprocess
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

BIN = Path(os.environ.get('PG_BIN', '/usr/lib/postgresql/17/bin'))

# What asks and does not copy is over in a moment; a minute is for a repository host under load.
ASK_SECONDS = 60


class ProgramError(Exception):
    """A program failed; the text is what it said last."""


@dataclasses.dataclass(frozen=True)
class Backup:
    """One backup set. Time is in seconds of the epoch, sizes are bytes of the data folder, `stop_lsn`
    is a byte position on time line `line`."""

    label: str
    kind: str
    repository: int
    started_at: int
    stopped_at: int
    size: int
    line: int
    stop_lsn: int


def load_environment() -> None:
    """The variables that `member` gives to what runs below it, for what runs without it."""
    script = Path(__file__).parent.parent / 'backup-environment'
    said = ask(['sh', '-c', '. "$0" && exec env -0', str(script)])
    os.environ.update(entry.split('=', 1) for entry in said.split('\0') if '=' in entry)


def ask(command: Sequence[str], seconds: int = ASK_SECONDS, env: Mapping[str, str] | None = None) -> str:
    """What a program prints. ProgramError has the last lines of what it complained of."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors='replace', timeout=seconds, env=env, check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f'{command[0]} did not end within {seconds} s') from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ProgramError(f'{Path(command[0]).name} ended with {done.returncode}: ' + ' / '.join(said[-4:]))
    return done.stdout


def backups() -> list[Backup]:
    """Every backup of the stanza, oldest first, without those that pgBackRest found broken."""
    found = [
        _backup(entry)
        for stanza in _repositories()
        for entry in stanza.get('backup', [])
        if not entry.get('error')
    ]
    return sorted(found, key=lambda one: one.stopped_at)


def stanza_problem() -> str | None:
    """Why a repository cannot be used, or None."""
    for stanza in _repositories():
        for repository in stanza.get('repo', []):
            # 2 is a stanza without a backup, which is a beginning and no fault.
            if repository['status']['code'] not in (0, 2):
                return f"repository {repository['key']}: {repository['status']['message']}"
    return None


def is_stanza_made() -> bool:
    """False while a repository does not know the stanza at all; what else is wrong, a backup will tell."""
    try:
        entries = [entry for stanza in _repositories() for entry in stanza.get('repo', [])]
    except ProgramError:
        return True
    return bool(entries) and all(entry['status']['code'] != 1 for entry in entries)


def _repositories() -> list[dict]:
    """What pgBackRest knows of the stanza, one repository after the other: asked for all at once by a
    member, pgBackRest 2.55 takes the second one for not encrypted."""
    numbers = range(1, int(os.environ.get('BACKUP_REPOSITORIES') or '1') + 1)
    said = [
        ask(['pgbackrest', '--log-level-console=off', f'--repo={number}', '--output=json', 'info'])
        for number in numbers
    ]
    try:
        return [stanza for text in said for stanza in json.loads(text)]
    except ValueError as error:
        # With a wrong passphrase pgBackRest quotes what it could not read, bytes that are no text.
        raise ProgramError('pgbackrest info cannot be read: is it the right passphrase?') from error


def newest_backup(all_backups: Sequence[Backup]) -> Backup | None:
    return all_backups[-1] if all_backups else None


def backup_for(all_backups: Sequence[Backup], moment: float) -> Backup | None:
    """The newest backup that had ended at that moment: only from there replay can stop at it."""
    return newest_backup([one for one in all_backups if one.stopped_at <= moment])


def is_followed(backup: Backup, line: int, ended: Mapping[int, int]) -> bool:
    """Whether replay from that backup comes by the time line `line`, whose ancestors ended as said."""
    return backup.line == line or backup.stop_lsn <= ended.get(backup.line, -1)


def parse_lsn(text: str) -> int:
    high, low = text.strip().split('/')
    return (int(high, 16) << 32) + int(low, 16)


def parse_history(content: str) -> dict[int, int]:
    """The lines of a time line's history file: ancestor, where it ended, why."""
    rows = (re.match(r'\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)', row) for row in content.splitlines())
    return {int(row[1]): parse_lsn(row[2]) for row in rows if row}


def line_at(lsn: int, line: int, ended: Mapping[int, int]) -> int:
    """The time line on which that position is, on the way to `line`."""
    return next((ancestor for ancestor in sorted(ended) if lsn < ended[ancestor]), line)


def newest_line(folder: Path, line: int) -> tuple[int, dict[int, int]]:
    """The newest time line that the archive knows of after `line`, and where its ancestors ended; found as
    PostgreSQL finds it (findNewestTimeLine in timeline.c). `folder`: data of the same cluster."""
    ended: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        while (content := _history(folder, line + 1, Path(scratch))) is not None:
            line, ended = line + 1, parse_history(content)
    return line, ended


def _history(folder: Path, line: int, scratch: Path) -> str | None:
    file = scratch / f'{line:08X}.history'
    command = ['pgbackrest', f'--pg1-path={folder}', 'archive-get', file.name, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, errors='replace', timeout=600, check=False)
    # 1 is a file that the archive does not have; everything above went wrong.
    if done.returncode > 1:
        raise ProgramError(f'{file.name} cannot be fetched: {done.stdout.strip()[-300:]}')
    return file.read_text() if done.returncode == 0 else None


def parse_moment(text: str) -> datetime.datetime:
    """A moment of time with its zone, as ISO 8601; a moment without one could be any of a day."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError('it has no time zone; write it like 2026-11-23T14:05:00Z')
    return moment


def with_replication(connection: str) -> str:
    """The same connection string, for replication commands. Patroni's are URLs."""
    if '://' in connection:
        mark = '&' if urllib.parse.urlsplit(connection).query else '?'
        return f'{connection}{mark}replication=true&connect_timeout=10'
    return f'{connection} replication=true connect_timeout=10'


def psql(connection: str, sql: str, seconds: int = ASK_SECONDS) -> str:
    command = [str(BIN / 'psql'), '--no-psqlrc', '--no-password', '-qAtX', '-v', 'ON_ERROR_STOP=1']
    return ask([*command, '-d', connection, '-c', sql], seconds).strip()


def control_data(folder: Path) -> dict[str, str]:
    env = {**os.environ, 'LC_ALL': 'C'}
    said = ask([str(BIN / 'pg_controldata'), str(folder)], env=env)
    pairs = (row.partition(':') for row in said.splitlines() if ':' in row)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _backup(entry: dict) -> Backup:
    # The name of a WAL file begins with its time line; without archived WAL there is no backup.
    stop = entry['archive']['stop'] or entry['archive']['start'] or '0'
    return Backup(
        label=entry['label'],
        kind=entry['type'],
        repository=entry['database']['repo-key'],
        started_at=entry['timestamp']['start'],
        stopped_at=entry['timestamp']['stop'],
        size=entry['info']['size'],
        line=int(stop[:8], 16),
        stop_lsn=parse_lsn(entry['lsn']['stop']),
    )
