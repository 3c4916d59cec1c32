/**
 * Reads of several clients on one server: every hazard of doing so, with the rule that answers it.
 * Source  docs/routing.md, "Shared servers".
 */
import { expect, test } from 'vitest'
import { backend, frontend } from '../../support/bytes.ts'
import { member, noPrimary, primary, routedIni, topology } from '../../support/pools.ts'
import {
  answerOf,
  CLOSED,
  learn,
  OPENED,
  riderIni,
  riding,
  textOf,
  turn,
} from '../../support/riders.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

function nonces(client: Client | undefined): string[] {
  return [...(client?.take().toString('latin1') ?? '').matchAll(/nonce \d+/g)].map(([one]) => one)
}

/** The read of one client in extended messages, of a statement with this name. */
function unitOf(nonce: number, statement = ''): Buffer[] {
  return [
    frontend.parse(statement, textOf(nonce)),
    frontend.bind({ statement }),
    frontend.execute(),
    frontend.sync(),
  ]
}

/** What answers it behind the ParseComplete. */
function boundAnswerOf(nonce: number): Buffer {
  return Buffer.concat([
    backend.bindComplete(),
    backend.dataRow([`nonce ${nonce}`]),
    backend.commandComplete('SELECT 1'),
    backend.readyForQuery(),
  ])
}

function failureOf(sqlstate: string): Buffer {
  return Buffer.concat([backend.errorResponse(sqlstate, 'x'), backend.readyForQuery()])
}

test('reads of three clients go in one write, and each gets its own answer', async () => {
  const { world, server, riders } = await riding(3)
  expect(riders.map(({ session }) => session.state)).toEqual(['riding', 'riding', 'riding'])
  expect(world.written(server)).toBe('QQQ')
  server.onBytes(Buffer.concat([answerOf(1), answerOf(2), answerOf(3)]))
  expect(riders.map(nonces)).toEqual([['nonce 1'], ['nonce 2'], ['nonce 3']])
  expect(riders.map(({ session }) => session.state)).toEqual(['idle', 'idle', 'idle'])
})

test('an answer that is cut anywhere goes to the one whose it is', async () => {
  const all = Buffer.concat([answerOf(1), answerOf(2), answerOf(3)])
  for (let cut = 1; cut < all.length; cut += 1) {
    const { server, riders } = await riding(3)
    server.onBytes(all.subarray(0, cut))
    server.onBytes(all.subarray(cut))
    expect(riders.map((rider) => rider.take().toString('hex'))).toEqual(
      [1, 2, 3].map((nonce) => answerOf(nonce).toString('hex')),
    )
  }
})

test('who was answered boards again behind the others, in the same call', async () => {
  const { world, server, riders } = await riding(2)
  world.bytesTo(server)
  riders[0]?.sends(frontend.query(textOf(11)))
  server.onBytes(answerOf(1))
  await turn()
  expect(world.written(server)).toBe('Q')
  server.onBytes(Buffer.concat([answerOf(2), answerOf(11)]))
  expect(riders.map(nonces)).toEqual([['nonce 1', 'nonce 11'], ['nonce 2']])
})

test('off, nobody rides', async () => {
  await expect(riding(3, { ini: riderIni().replace('auto', 'off') })).rejects.toThrow('no carriage')
})

test('a write waits for a server of its own, while reads ride past it', async () => {
  const { world, server, other, busy, riders } = await riding(1)
  const writer = world.client()
  writer.sends(frontend.query('INSERT INTO t VALUES (2)'))
  expect(writer.session.state).toBe('waiting')
  server.onBytes(answerOf(1))
  expect(nonces(riders[0])).toEqual(['nonce 1'])
  other.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
  expect(busy.types()).toBe('CZ')
  expect(writer.server).toBe(other)
})

test('a write that would wait for ever gets the server back, made ordinary again', async () => {
  const { world, server, riders } = await riding(1)
  world.bytesTo(server)
  const writers = [world.client(), world.client()]
  for (const writer of writers) writer.sends(frontend.query('INSERT INTO t VALUES (2)'))
  server.onBytes(answerOf(1))
  expect(nonces(riders[0])).toEqual(['nonce 1'])
  expect(world.bytesTo(server).toString()).toContain('RESET default_transaction_read_only')
  server.onBytes(CLOSED)
  expect(writers.map(({ session }) => session.state)).toEqual(['active', 'waiting'])
  expect(world.bytesTo(server).toString()).toContain('INSERT')
})

test('who asks what anybody may answer is not starved by reads that ride on every server', async () => {
  const ini = routedIni('default_pool_size = 2', 'multiplex_reads = auto\nno_replica = wait')
  const world = new SessionWorld(ini)
  const members = [primary('pg1'), member('pg2')]
  world.world.pools.setTopology(topology({ members }))
  learn(world, textOf(1))
  const readers = Array.from({ length: 8 }, () => world.client())
  for (const reader of readers) reader.sends(frontend.query(textOf(1)))
  await world.settle()
  const lonely = [member('pg1', { eligible: false }), member('pg2')]
  world.world.pools.setTopology(noPrimary({ serial: 2, members: lonely }))
  const [first] = readers
  const serve = async (): Promise<void> => {
    for (const server of first?.session.pool.fleet.servers() ?? []) {
      const said = world.bytesTo(server).toString('latin1')
      if (said.includes('read_only TO on')) server.onBytes(OPENED)
      else if (said.includes('RESET default')) server.onBytes(CLOSED)
      else if (server.ledger.length > 0) server.onBytes(answerOf(1))
    }
    for (const reader of readers)
      if (reader.session.state === 'idle') reader.sends(frontend.query(textOf(1)))
    await turn()
    await world.world.pass(1)
  }
  for (let time = 0; time < 20; time += 1) await serve()
  expect(world.carriages.size).toBe(2)
  const setter = world.client()
  setter.sends(frontend.query('SET search_path TO x'))
  for (let time = 0; time < 200 && setter.session.state === 'waiting'; time += 1) await serve()
  expect(setter.session.state).toBe('active')
})

test('a server on which nobody rides for a while is ordinary again', async () => {
  const { world, server } = await riding(1)
  server.onBytes(answerOf(1))
  world.bytesTo(server)
  await world.world.pass(200)
  expect(world.bytesTo(server).toString()).toContain('RESET default_transaction_read_only')
  server.onBytes(CLOSED)
  expect(server.state).toBe('idle')
  expect(world.carriages.size).toBe(0)
})

test('nobody boards behind a statement of which nothing is known, or that takes long', async () => {
  const unknown = await riding(2, { messages: [[frontend.query('SELECT other FROM t')]] })
  expect(unknown.riders.map(({ session }) => session.state)).toEqual(['riding', 'waiting'])
  const world = new SessionWorld(riderIni())
  learn(world, textOf(1), 50)
  const clients = [world.client(), world.client(), world.client()]
  for (const client of clients) client.sends(frontend.query(textOf(1)))
  expect(clients.map(({ session }) => session.mayRide)).toEqual([false, false, false])
})

test('a statement that was slow may ride again when servers of its own answer it quickly', async () => {
  const world = new SessionWorld(riderIni())
  learn(world, textOf(1), 50)
  const client = world.client()
  const rides: boolean[] = []
  for (let time = 0; time < 30; time += 1) {
    client.sends(frontend.query(textOf(time)))
    await world.settle()
    rides.push(client.session.mayRide)
    client.server.onBytes(answerOf(time))
  }
  expect(rides[0]).toBe(false)
  expect(rides.at(-1)).toBe(true)
})

test('sessions with other settings do not ride together', async () => {
  const { world, server, riders } = await riding(1)
  server.onBytes(answerOf(1))
  const [rider] = riders
  rider?.take()
  rider?.session.carried.set('datestyle', "'German'")
  rider?.session.carried.commit()
  rider?.sends(frontend.query(textOf(2)))
  expect(rider?.session.state).toBe('waiting')
  expect(world.bytesTo(server).toString()).not.toContain('= 2')
})

test('while a server has work, what else is for it is gathered, and sent before it has none', async () => {
  const { world, server, riders } = await riding(6)
  expect(world.written(server)).toBe('QQQQQQ')
  const others = [world.client(), world.client(), world.client()]
  for (const [index, other] of others.entries()) other.sends(frontend.query(textOf(7 + index)))
  await turn()
  expect(world.written(server)).toBe('')
  server.onBytes(Buffer.concat([answerOf(1), answerOf(2)]))
  await turn()
  expect(world.written(server)).toBe('')
  server.onBytes(answerOf(3))
  await turn()
  expect(world.written(server)).toBe('QQQ')
  server.onBytes(Buffer.concat([4, 5, 6, 7, 8, 9].map((nonce) => answerOf(nonce))))
  expect([...riders, ...others].map((rider) => nonces(rider).length)).toEqual(Array(9).fill(1))
})

test('what is gathered is sent at once to a server that has answered everything', async () => {
  const { world, server, riders } = await riding(4)
  world.bytesTo(server)
  const other = world.client()
  other.sends(frontend.query(textOf(5)))
  expect(world.written(server)).toBe('')
  server.onBytes(Buffer.concat([1, 2, 3, 4].map((nonce) => answerOf(nonce))))
  expect(world.written(server)).toBe('Q')
  server.onBytes(answerOf(5))
  expect([...riders, other].map((rider) => nonces(rider).length)).toEqual(Array(5).fill(1))
})

// Hazard 1.

test('a read that opened a transaction ends its server, and who stood behind it goes elsewhere', async () => {
  const { server, other, riders, world } = await riding(3)
  server.onBytes(Buffer.concat([answerOf(1, 'T'), answerOf(2, 'T'), answerOf(3, 'T')]))
  expect(server.state).toBe('closed')
  expect(riders[0]?.closed).toBe('server_protocol')
  expect(riders.slice(1).map(({ session }) => session.state)).toEqual(['waiting', 'waiting'])
  expect(riders.slice(1).map(nonces)).toEqual([[], []])
  other.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
  expect(world.bytesTo(other).toString()).toContain('read_only TO on')
})

// Hazard 3.

test('the error of one is its own', async () => {
  const { server, riders } = await riding(3)
  const failed = Buffer.concat([backend.errorResponse('22012', 'x'), backend.readyForQuery()])
  server.onBytes(Buffer.concat([failed, answerOf(2), answerOf(3)]))
  expect(riders[0]?.types()).toBe('EZ')
  expect(riders.slice(1).map(nonces)).toEqual([['nonce 2'], ['nonce 3']])
})

test('an error in the extended protocol skips to its own Sync and no further', async () => {
  const { world, server, riders } = await riding(3, { messages: [unitOf(1), unitOf(2), unitOf(3)] })
  expect(world.written(server)).toBe('PBESPBESPBES')
  const answered = [2, 3].map((nonce) =>
    Buffer.concat([backend.parseComplete(), boundAnswerOf(nonce)]),
  )
  server.onBytes(Buffer.concat([failureOf('42601'), ...answered]))
  expect(riders[0]?.types()).toBe('EZ')
  expect(riders.slice(1).map(nonces)).toEqual([['nonce 2'], ['nonce 3']])
})

// Hazard 4: what a text hides, PostgreSQL refuses.

test('a write in disguise is refused there and goes once more, alone, and never rides again', async () => {
  const { world, server, other, riders } = await riding(3)
  const refused = Buffer.concat([backend.errorResponse('25006', 'x'), backend.readyForQuery()])
  server.onBytes(Buffer.concat([refused, answerOf(2), answerOf(3)]))
  expect(riders.map(nonces)).toEqual([[], ['nonce 2'], ['nonce 3']])
  expect(riders[0]?.session.state).toBe('waiting')
  world.bytesTo(other)
  other.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
  expect(world.bytesTo(other).toString()).toContain('id = 1')
  other.onBytes(answerOf(1))
  expect(nonces(riders[0])).toEqual(['nonce 1'])
  riders[0]?.sends(frontend.query(textOf(9)))
  expect(riders[0]?.session.mayRide).toBe(false)
})

// Hazard 5.

test('those behind a late one go elsewhere, and their late answers reach nobody', async () => {
  const { world, server, other, riders } = await riding(3)
  await world.world.pass(10)
  await world.world.pass(10)
  await world.world.pass(10)
  expect(riders.map(({ session }) => session.state)).toEqual(['riding', 'waiting', 'waiting'])
  world.bytesTo(other)
  other.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
  expect(world.bytesTo(other).toString()).toContain('read_only TO on')
  other.onBytes(OPENED)
  await turn()
  expect(world.bytesTo(other).toString('latin1')).toMatch(/id = 2.*id = 3/s)
  other.onBytes(Buffer.concat([answerOf(2), answerOf(3)]))
  expect(riders.map(nonces)).toEqual([[], ['nonce 2'], ['nonce 3']])
  server.onBytes(Buffer.concat([answerOf(1), answerOf(2), answerOf(3)]))
  expect(riders.map(nonces)).toEqual([['nonce 1'], [], []])
  expect(world.counters.ridesMoved).toBe(2)
  expect(server.isIdle).toBe(true)
})

test('nobody boards behind a late one; when it is answered they do again', async () => {
  const { world, server, riders } = await riding(2)
  await world.world.pass(10)
  await world.world.pass(10)
  await world.world.pass(10)
  const late = world.client()
  late.sends(frontend.query(textOf(4)))
  expect(late.session.state).toBe('waiting')
  world.bytesTo(server)
  server.onBytes(answerOf(1))
  await turn()
  expect(nonces(riders[0])).toEqual(['nonce 1'])
  expect(world.bytesTo(server).toString('latin1')).toMatch(/id = 2.*id = 4/s)
  server.onBytes(Buffer.concat([answerOf(2), answerOf(2), answerOf(4)]))
  expect([riders[1], late].map(nonces)).toEqual([['nonce 2'], ['nonce 4']])
})

test('a batch that was moved twice waits for a server of its own', async () => {
  const { world, other, riders } = await riding(3)
  for (let time = 0; time < 3; time += 1) await world.world.pass(10)
  other.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
  other.onBytes(OPENED)
  await turn()
  expect(riders.map(({ session }) => session.state)).toEqual(['riding', 'riding', 'riding'])
  for (let time = 0; time < 3; time += 1) await world.world.pass(10)
  expect(riders.map(({ session }) => session.state)).toEqual(['riding', 'riding', 'waiting'])
  expect(riders.map(({ session }) => session.mayRide)).toEqual([true, true, false])
})

test('a late one whose client has gone is not waited for', async () => {
  const { world, server, riders } = await riding(1)
  riders[0]?.session.onClosed()
  await world.world.pass(10)
  await world.world.pass(10)
  await world.world.pass(10)
  expect(server.state).toBe('closed')
})

// Hazard 6.

test('a slow reader holds up nobody: those behind it go elsewhere before its server waits', async () => {
  const { world, server, other, riders } = await riding(3, {
    ini: riderIni('', 'multiplex_buffer_bytes_max = 100000'),
  })
  riders[0]?.stopsReading()
  const row = backend.dataRow(['x'.repeat(60_000)])
  server.onBytes(backend.rowDescription([{ name: 'a' }]))
  server.onBytes(row)
  expect(riders[1]?.session.state).toBe('riding')
  expect(world.world.channelOf(server).isPaused).toBe(false)
  server.onBytes(row)
  server.onBytes(row)
  expect(riders.map(({ session }) => session.state)).toEqual(['riding', 'waiting', 'waiting'])
  expect(world.world.channelOf(server).isPaused).toBe(true)
  other.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
  other.onBytes(OPENED)
  other.onBytes(Buffer.concat([answerOf(2), answerOf(3)]))
  expect(riders.slice(1).map(nonces)).toEqual([['nonce 2'], ['nonce 3']])
  riders[0]?.goesOn()
  await turn()
  expect(world.world.channelOf(server).isPaused).toBe(false)
  const rest = Buffer.concat([backend.commandComplete('SELECT 3'), backend.readyForQuery()])
  server.onBytes(Buffer.concat([rest, answerOf(2), answerOf(3)]))
  expect(riders[0]?.types()).toBe('TDDDCZ')
  expect(riders.slice(1).map(nonces)).toEqual([[], []])
})

// Hazard 7.

test('a cancel request for one that stands behind another is answered at once, and hits nobody', async () => {
  const { world, server, riders } = await riding(3)
  void riders[1]?.session.cancel()
  expect(world.world.cancels).toHaveLength(0)
  expect(riders[1]?.take().toString('latin1')).toContain('57014')
  expect(riders[1]?.session.state).toBe('idle')
  server.onBytes(Buffer.concat([answerOf(1), answerOf(2), answerOf(3)]))
  expect(riders.map(nonces)).toEqual([['nonce 1'], [], ['nonce 3']])
})

test('a cancel request for the first is sent when nobody stands behind it, and nobody boards until it is over', async () => {
  const { world, server, riders } = await riding(3)
  void riders[0]?.session.cancel()
  expect(riders.map(({ session }) => session.state)).toEqual(['riding', 'waiting', 'waiting'])
  expect(world.world.cancels.map((cancel) => cancel.server)).toEqual([server])
  const cancelled = Buffer.concat([backend.errorResponse('57014', 'x'), backend.readyForQuery()])
  world.bytesTo(server)
  server.onBytes(Buffer.concat([cancelled, answerOf(2), answerOf(3)]))
  expect(riders[0]?.types()).toBe('EZ')
  await turn()
  expect(world.bytesTo(server).length).toBe(0)
  expect(riders.slice(1).map(({ session }) => session.state)).toEqual(['waiting', 'waiting'])
  world.world.cancels[0]?.end()
  await turn()
  await world.world.pass(10)
  await turn()
  expect(world.bytesTo(server).toString('latin1')).toMatch(/id = 2.*id = 3/s)
  server.onBytes(Buffer.concat([answerOf(2), answerOf(3)]))
  expect(riders.slice(1).map(nonces)).toEqual([['nonce 2'], ['nonce 3']])
})

// Hazard 8.

test('query_timeout counts for who rides', async () => {
  const { world, riders } = await riding(1, { ini: riderIni('query_timeout = 5') })
  world.world.clock.advance(6000)
  riders[0]?.session.checkTime(world.world.clock.nowMs())
  expect(riders[0]?.closed).toBe('query_timeout')
})

// Hazard 9.

test('a server that is shut down under three: all go again, and get one answer each', async () => {
  const { world, server, other, riders } = await riding(3)
  server.onBytes(backend.errorResponse('57P01', 'terminating connection', 'FATAL'))
  world.world.channelOf(server).finish()
  expect(riders.map((rider) => rider.types())).toEqual(['', '', ''])
  await world.settle()
  other.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
  for (const { session } of riders) expect(['active', 'waiting']).toContain(session.state)
})

test('a server that ends without a word: the first is told, the others go again', async () => {
  const { world, server, riders } = await riding(3)
  world.world.channelOf(server).finish()
  expect(riders.slice(1).map(({ session }) => session.state)).toEqual(['waiting', 'waiting'])
  await world.world.pass(1000)
  expect(riders[0]?.take().toString('latin1')).toContain('40001')
  expect(riders[0]?.session.state).toBe('idle')
  expect(riders.slice(1).map((rider) => rider.types())).toEqual(['', ''])
})

test('a server that crashed: the first is told, the others go again', async () => {
  const { world, server, riders } = await riding(2)
  server.onBytes(backend.noticeResponse('57P02', 'crash', 'WARNING'))
  world.world.channelOf(server).finish()
  expect(riders[0]?.take().toString('latin1')).toContain('40001')
  expect(riders[1]?.types()).toBe('')
})

test('a server that is lost in the middle of an answer: its client is told, as far as it can be', async () => {
  const { world, server, riders } = await riding(2)
  server.onBytes(answerOf(1).subarray(0, -6))
  server.onBytes(backend.errorResponse('57P01', 'x', 'FATAL'))
  world.world.channelOf(server).finish()
  expect(riders[0]?.types()).toBe('TDCZ')
  expect(riders[1]?.types()).toBe('')
})

test('an order of the operator ends those who ride', async () => {
  const { world, riders } = await riding(2)
  world.world.pools.kill()
  await turn()
  expect(riders.map(({ closed }) => closed)).toEqual(['admin_disconnect', 'admin_disconnect'])
})

// Hazard 10.

test('a notice is for the first; what a server reports is for nobody, and nobody boards any more', async () => {
  const { world, server, riders } = await riding(2)
  server.onBytes(backend.noticeResponse('01000', 'mind'))
  expect(riders.map((rider) => rider.types())).toEqual(['N', ''])
  server.onBytes(backend.parameterStatus('TimeZone', 'UTC'))
  server.onBytes(Buffer.concat([answerOf(1), answerOf(2)]))
  expect(riders.map((rider) => rider.types())).toEqual(['TDCZ', 'TDCZ'])
  expect(world.bytesTo(server).toString()).toContain('RESET default_transaction_read_only')
})

test('what nobody asked for ends the server; the first is told and the others go elsewhere', async () => {
  const { server, riders } = await riding(2)
  server.onBytes(backend.authenticationOk())
  expect(server.state).toBe('closed')
  expect(riders[0]?.closed).toBe('server_protocol')
  expect(riders[1]?.session.state).toBe('waiting')
})

// Hazard 11.

test('a named statement is prepared once for all who ride', async () => {
  const { world, server, riders } = await riding(3, {
    messages: [unitOf(1, 's'), unitOf(1, 's'), unitOf(1, 's')],
  })
  expect(world.written(server)).toBe('PBESBESBES')
  server.onBytes(Buffer.concat([backend.parseComplete(), ...[1, 2, 3].map(boundAnswerOf)]))
  expect(riders.map((rider) => rider.types())).toEqual(['12DCZ', '12DCZ', '12DCZ'])
})

test('a statement whose Parse failed for another is prepared anew, elsewhere', async () => {
  const { world, server, other, riders } = await riding(2, {
    messages: [unitOf(1, 's'), unitOf(1, 's')],
  })
  world.bytesTo(other)
  server.onBytes(Buffer.concat([failureOf('42P01'), failureOf('26000')]))
  expect(riders[0]?.types()).toBe('EZ')
  expect(riders[1]?.types()).toBe('')
  other.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
  expect(world.written(other)).toBe('PBES')
})

test('a ParseComplete of ours is no answer yet: what is refused behind it is kept from its client', async () => {
  const failed = await riding(2, { messages: [unitOf(1, 's'), unitOf(1, 's')] })
  failed.server.onBytes(failureOf('42P01'))
  failed.server.onBytes(failureOf('26000'))
  expect(failed.riders.map((rider) => rider.types())).toEqual(['EZ', ''])
  const hidden = await riding(2, { messages: [unitOf(1, 's'), unitOf(1, 's')] })
  hidden.server.onBytes(Buffer.concat([backend.parseComplete(), boundAnswerOf(1)]))
  hidden.server.onBytes(Buffer.concat([backend.bindComplete(), failureOf('25006')]))
  expect(hidden.riders.map((rider) => rider.types())).toEqual(['12DCZ', ''])
  const lost = await riding(2, { messages: [unitOf(1, 's'), unitOf(1, 's')] })
  lost.server.onBytes(Buffer.concat([backend.parseComplete(), boundAnswerOf(1)]))
  lost.server.onBytes(backend.errorResponse('57P01', 'terminating connection', 'FATAL'))
  lost.world.world.channelOf(lost.server).finish()
  expect(lost.riders.map((rider) => rider.types())).toEqual(['12DCZ', ''])
  expect(lost.riders[1]?.session.state).toBe('waiting')
})

test('what a server says while nobody rides is no answer to who comes next', async () => {
  const { server, riders } = await riding(1)
  server.onBytes(answerOf(1))
  riders[0]?.take()
  server.onBytes(backend.noticeResponse('01000', 'mind'))
  riders[0]?.sends(frontend.query(textOf(3)))
  expect(riders[0]?.session.state).toBe('riding')
  server.onBytes(failureOf('25006'))
  expect(riders[0]?.types()).toBe('')
})

// A message that cannot be sent.

/** A Describe whose name has no end, in a unit that looks like one. */
function brokenUnit(nonce: number): Buffer[] {
  const describe = Buffer.from([0x44, 0, 0, 0, 6, 0x50, 0x78])
  const [parse, bind, execute, sync] = unitOf(nonce)
  return [parse, bind, describe, execute, sync].filter((one) => one !== undefined)
}

test('a unit that no client may send ends its session and moves nobody, however far they are', async () => {
  const { world, server, riders } = await riding(2)
  world.bytesTo(server)
  const answer = answerOf(1)
  server.onBytes(answer.subarray(0, -6))
  const late = world.client()
  late.sends(...brokenUnit(3))
  expect(late.closed).toBe('broken_message')
  expect(riders.map(({ session }) => session.state)).toEqual(['riding', 'riding'])
  server.onBytes(Buffer.concat([answer.subarray(-6), answerOf(2)]))
  expect(riders.map((rider) => rider.types())).toEqual(['TDCZ', 'TDCZ'])
  await turn()
  expect(world.written(server)).toBe('')
  expect(server.state).toBe('closed')
  expect(world.counters.ridesMoved).toBe(0)
})

test('and when it is the first, its server is not used again', async () => {
  const { world, server, riders } = await riding(1)
  server.onBytes(answerOf(1))
  world.bytesTo(server)
  riders[0]?.sends(...brokenUnit(3))
  expect(riders[0]?.closed).toBe('broken_message')
  expect(server.state).toBe('closed')
})
