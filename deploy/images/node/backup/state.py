"""What etcd says of the cluster: removed but for the configuration, so that the member whose data was
restored starts the cluster anew with it. It speaks etcd's JSON gateway with the same addresses and
certificates as Patroni, and does its work in one transaction: there is no half of it.
"""

import base64
import json
import os
import ssl
import time
import urllib.error
import urllib.request

CONFIGURATION = os.environ.get('PATRONI_CONFIGURATION', '/etc/patroni/conf.d')
ASK_SECONDS = 10

# Everything that Patroni keeps below its scope, but `config`. Source: patroni/dcs/__init__.py.
KEYS = ('initialize', 'leader', 'sync', 'failover', 'history', 'status', 'optime/leader', 'failsafe')
PREFIXES = ('members/',)


class StateError(Exception):
    """The state of the cluster cannot be read or must not be removed; the text says why."""


class ClusterState:
    def __init__(self, configuration: dict) -> None:
        etcd = configuration.get('etcd3') or configuration.get('etcd') or {}
        hosts = etcd.get('hosts') or etcd.get('host') or ''
        names = hosts.split(',') if isinstance(hosts, str) else list(hosts)
        self._hosts = [name.strip().strip('\'"') for name in names if name.strip()]
        self._scheme = etcd.get('protocol', 'http')
        self._context = _context(etcd) if self._scheme == 'https' else None
        namespace = configuration.get('namespace', 'service').strip('/')
        self._prefix = f"/{namespace}/{configuration['scope']}/"
        if not self._hosts:
            raise StateError('the configuration of Patroni names no etcd')

    def leader(self) -> str | None:
        """Who holds the leader key. It is gone at a clean stop, and after the ttl otherwise."""
        answer = self._ask('range', {'key': _base64(self._prefix + 'leader')})
        found = answer.get('kvs', [])
        return base64.b64decode(found[0]['value']).decode() if found else None

    def wait_until_nobody_leads(self, seconds: int) -> None:
        deadline = time.monotonic() + seconds
        while (leader := self.leader()) is not None:
            if time.monotonic() > deadline:
                raise StateError(f'{leader} still leads the cluster: stop it before a restore')
            time.sleep(1)

    def clear(self) -> None:
        """Removes it all in one transaction, on the condition that nobody leads."""
        removed = [{'request_delete_range': {'key': _base64(self._prefix + key)}} for key in KEYS]
        removed += [
            {'request_delete_range': {
                'key': _base64(self._prefix + prefix),
                # The first key after all that begin so.
                'range_end': _base64((self._prefix + prefix)[:-1] + chr(ord(prefix[-1]) + 1)),
            }}
            for prefix in PREFIXES
        ]
        nobody = {
            'key': _base64(self._prefix + 'leader'), 'target': 'VERSION', 'result': 'EQUAL', 'version': '0',
        }
        answer = self._ask('txn', {'compare': [nobody], 'success': removed})
        if not answer.get('succeeded'):
            raise StateError('a member took the lead meanwhile: stop it before a restore')

    def _ask(self, what: str, body: dict) -> dict:
        problems = []
        for host in self._hosts:
            url = f'{self._scheme}://{host}/v3/kv/{what}'
            request = urllib.request.Request(url, json.dumps(body).encode(), {'Content-Type': 'application/json'})
            try:
                with urllib.request.urlopen(request, timeout=ASK_SECONDS, context=self._context) as answer:
                    return json.load(answer)
            except (urllib.error.URLError, OSError, ValueError) as error:
                problems.append(f'{host}: {error}')
        raise StateError('no etcd answers: ' + '; '.join(problems))


def of_patroni() -> ClusterState:
    """By the very configuration with which Patroni runs, variables included."""
    from patroni.config import Config  # noqa: PLC0415  a module of the image, not of this package

    return ClusterState(Config(CONFIGURATION, None).copy())


def _context(etcd: dict) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=etcd.get('cacert'))
    # What Patroni and etcd accept is enough here: Python 3.13 alone wants more of a CA than they do.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if etcd.get('cert'):
        context.load_cert_chain(etcd['cert'], etcd.get('key'))
    return context


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
