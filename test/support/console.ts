/**
 * A console that real clients can log in to without a password: the session of src/admin behind the
 * shortest possible log-in, with `Actions` of the test's own.
 */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { type Actions, type ConsoleRole, runCommand } from '../../src/admin/commands.ts'
import { CONSOLE_PARAMETERS, ConsoleSession } from '../../src/admin/console.ts'
import { systemClock } from '../../src/base/clock.ts'
import { Channel } from '../../src/net/channel.ts'
import { backend } from './bytes.ts'

export interface TestConsole {
  readonly port: number
  close(): void
}

/** Listens on a free port of 127.0.0.1; user `stats` gets the role of that name. */
export async function startConsole(actions: Actions): Promise<TestConsole> {
  const server = createServer((socket) => {
    void serve(new Channel(socket), actions)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { port, close: () => server.close() }
}

async function serve(channel: Channel, actions: Actions): Promise<void> {
  const role = await welcome(channel)
  channel.attach(
    new ConsoleSession({
      channel,
      role,
      codes: 'pgbouncer',
      clock: systemClock,
      execute: (sql) => runCommand(sql, role, actions, 'pgbouncer'),
      onClosed: () => undefined,
    }),
  )
}

async function welcome(channel: Channel): Promise<ConsoleRole> {
  for (;;) {
    const length = (await channel.read(4)).readInt32BE(0)
    const body = await channel.read(length - 4)
    const code = body.readInt32BE(0)
    if (code === 80_877_103 || code === 80_877_104) {
      channel.write(Buffer.from('N'))
      continue
    }
    for (const bytes of [
      backend.authenticationOk(),
      ...[...CONSOLE_PARAMETERS].map(([name, value]) => backend.parameterStatus(name, value)),
      backend.backendKeyData(1, 1),
      backend.readyForQuery(),
    ])
      channel.write(bytes)
    return body.includes('\0stats\0') ? 'stats' : 'admin'
  }
}
