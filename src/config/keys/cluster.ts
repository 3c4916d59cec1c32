/**
 * Every key of [cluster]: where the members of the cluster come from and how they are asked.
 */
import {
  choice,
  file,
  hostPorts,
  int,
  labels,
  ms,
  RESTART,
  secret,
  string,
  text,
  urls,
  weights,
} from '../kinds.ts'
import { SSL_MODES } from './pgbouncer.ts'

/** What a primary needs to go on while the source is silent for longer than ttl. */
export const FAILSTATIC_NEEDS = ['patroni', 'sql'] as const

export const SOURCES = ['etcd', 'patroni', 'static'] as const

export const CLUSTER_KEYS = {
  source: choice(
    SOURCES,
    'etcd',
    'Who knows the members: etcd (as Patroni writes it), Patroni itself over HTTP, or a list of hosts.',
    RESTART,
  ),
  scope: text('', "Patroni's scope: the name of the cluster. Needed by source = etcd.", RESTART),
  group: int(null, "Patroni's group, for Citus; 0 is the coordinator.", RESTART),
  namespace: string('/service/', "Patroni's namespace in etcd.", RESTART),
  etcd_hosts: urls('', 'The members of etcd, as URLs. Needed by source = etcd.', RESTART),
  etcd_user: text(null, 'User of etcd.', RESTART),
  etcd_password: secret('Password of etcd_user.', RESTART),
  etcd_tls_ca_file: file(null, "Certificates that etcd's are checked against.", RESTART),
  etcd_tls_cert_file: file(null, 'Certificate shown to etcd.', RESTART),
  etcd_tls_key_file: file(null, 'Private key of etcd_tls_cert_file.', RESTART),
  etcd_timeout_ms: ms('1000', 'Longest wait for an answer of etcd.', { min: 100 }),
  patroni_urls: urls(
    '',
    "Addresses of Patroni's REST API; the members are learnt from any of them. Needed by source = patroni.",
    RESTART,
  ),
  patroni_interval_ms: ms('1000', 'How often Patroni is asked with source = patroni.', { min: 20 }),
  patroni_timeout_ms: ms('1500', 'Longest wait for an answer of Patroni.', { min: 100 }),
  patroni_tls_ca_file: file(null, "Certificates that Patroni's are checked against.", RESTART),
  patroni_tls_cert_file: file(null, 'Certificate shown to Patroni.', RESTART),
  patroni_tls_key_file: file(null, 'Private key of patroni_tls_cert_file.', RESTART),
  hosts: hostPorts(
    '',
    'The members, as host:port; roles are found by asking them. Needed by source = static.',
    RESTART,
  ),
  ttl_ms: ms(
    '30000',
    "Patroni's ttl while it is not known, and with source = static; the hold is derived from it.",
    { min: 1000 },
  ),
  member_weights: weights(
    '',
    'Share of the reads per member (`pg1=2, pg2=1`); 1 where not named, 0 = none.',
  ),
  member_zones: labels('', 'Zone per member (`pg1=a, pg2=b`); see zone of [pgsteer].'),
  probe_user: string('pgsteer', 'User of the probes: LOGIN, member of pg_monitor.'),
  probe_password: secret('Password of probe_user.'),
  probe_database: string('postgres', 'Database of the probes.'),
  probe_interval_ms: ms('500', 'How often every member is probed.', { min: 10 }),
  probe_busy_interval_ms: ms(
    '20',
    'How often while a session waits for a replica to catch up, or a primary is looked for.',
    { min: 1 },
  ),
  probe_timeout_ms: ms('1500', 'A member that has not answered by then has not answered.', {
    min: 10,
  }),
  probe_tls_sslmode: choice(SSL_MODES, 'prefer', 'TLS of the probes, with the server_tls_* files.'),
  failstatic_needs: choice(
    FAILSTATIC_NEEDS,
    'patroni',
    "While the source is silent for longer than ttl, writes go on if SQL and Patroni's REST confirm the primary; `sql`: SQL alone.",
  ),
  lease_guard_ms: ms(
    '3000',
    "No new write starts when the lease of the leader's key has less left (source = etcd).",
  ),
} as const
