/**
 * SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS: one row per connection. What only C can know
 * is empty or 0: addresses of structures become ids, the process behind a Unix socket
 * (SO_PEERCRED) and positions in socket buffers are 0.
 */
import type { ClientFacts } from '../../client/facts.ts'
import type { ServerFacts } from '../../server/facts.ts'
import type { ServerState } from '../../server/states.ts'
import type { Snapshot } from '../facts.ts'
import { columns, type Row, row, secondsAndMicros, timestamp, type Value } from '../table.ts'

const HEAD = `type user database replication state addr port:int4 local_addr local_port:int4
  connect_time request_time wait:int4 wait_us:int4 close_needed:int4 ptr link remote_pid:int4 tls
  application_name prepared_statements:int4 id:int4`

/** Ours come after PgBouncer's, so that tools that count columns from the left still fit. */
export const CLIENTS = columns(`${HEAD} route_reason pin_reasons wait_reason member`)
export const SERVERS = columns(`${HEAD} member role riders:int4`)
export const SOCKETS = columns(`${HEAD} recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4
  send_remain:int4 pkt_avail:int4 send_avail:int4`)

export function showClients({ facts }: Snapshot): Row[] {
  return facts.clients.clients
    .filter((client) => client.state !== 'login' && client.state !== 'closed')
    .map((client) =>
      row(
        ...clientHead(client, clientState(client)),
        client.routeReason,
        client.pinReasons.length === 0 ? null : client.pinReasons.join(','),
        client.waitReason,
        client.serverMember,
      ),
    )
}

export function showServers({ facts }: Snapshot): Row[] {
  return facts.servers
    .filter((server) => server.state !== 'closed')
    .map((server) =>
      row(
        ...serverHead(server, SERVER_WORDS[server.state]),
        server.member,
        server.role,
        server.riders,
      ),
    )
}

export function showSockets(snapshot: Snapshot): Row[] {
  return sockets(snapshot, () => true)
}

/** PgBouncer lists sockets with bytes in their buffers; here: those that are at work. */
export function showActiveSockets(snapshot: Snapshot): Row[] {
  return sockets(
    snapshot,
    (socket) => socket.state === 'active' || socket.state === 'login' || socket.state === 'tested',
  )
}

function sockets(
  { facts }: Snapshot,
  isWanted: (socket: ClientFacts | ServerFacts) => boolean,
): Row[] {
  const buffers = [0, 0, 0, 0, 0, 0, 0]
  const clients = facts.clients.clients
    .filter((client) => client.state !== 'closed' && isWanted(client))
    .map((client) => row(...clientHead(client, `cl_${socketState(client)}`), ...buffers))
  const servers = facts.servers
    .filter((server) => server.state !== 'closed' && isWanted(server))
    .map((server) => row(...serverHead(server, `sv_${SOCKET_WORDS[server.state]}`), ...buffers))
  return [...clients, ...servers]
}

function clientState(client: ClientFacts): string {
  return client.state === 'held' ? 'waiting' : client.state
}

/** SHOW SOCKETS does not tell idle clients from active ones. */
function socketState(client: ClientFacts): string {
  return client.state === 'idle' ? 'active' : clientState(client)
}

const SERVER_WORDS: Readonly<Record<ServerState, string>> = {
  login: 'new',
  idle: 'idle',
  used: 'used',
  tested: 'tested',
  active: 'active',
  active_cancel: 'being_canceled',
  closed: 'closed',
}
const SOCKET_WORDS: Readonly<Record<ServerState, string>> = { ...SERVER_WORDS, login: 'login' }

function clientHead(client: ClientFacts, state: string): Value[] {
  const link = client.serverId === null ? '' : `s${client.serverId}`
  return [
    'C',
    client.user === '' ? '(nouser)' : client.user,
    client.database === '' ? '(nodb)' : client.database,
    client.replication,
    state,
    ...addresses(client),
    ...secondsAndMicros(client.waitMs),
    client.closeNeeded ? 1 : 0,
    `c${client.id}`,
    link,
    0,
    client.tls,
    client.applicationName,
    client.preparedStatements,
    client.id,
  ]
}

function serverHead(server: ServerFacts, state: string): Value[] {
  return [
    'S',
    server.user,
    server.database,
    server.replication,
    state,
    ...addresses(server),
    0,
    0,
    server.isDoomed ? 1 : 0,
    `s${server.id}`,
    server.clientId === null ? '' : `c${server.clientId}`,
    server.processId,
    server.tls,
    server.applicationName,
    server.preparedStatements,
    server.id,
  ]
}

function addresses(socket: ClientFacts | ServerFacts): Value[] {
  return [
    socket.address,
    socket.port,
    socket.localAddress,
    socket.localPort,
    timestamp(socket.connectedWallMs),
    timestamp(socket.requestWallMs),
  ]
}
