import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { Channel, type Receiver } from '../../../src/net/channel.ts'
import { isShared } from '../../../src/net/shared-read.ts'
import { ClientTls } from '../../../src/net/tls.ts'
import { Authority } from '../../support/certificates.ts'
import { socketPair } from '../../support/sockets.ts'

const directory = mkdtempSync(join(tmpdir(), 'pgsteer-tls-channel-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
const authority = new Authority(directory)
const { certFile, keyFile } = authority.issue({ commonName: 'x', names: 'DNS:localhost' })
const tls = new ClientTls({
  sslmode: 'require',
  caFile: null,
  certFile,
  keyFile,
  ciphers: 'default',
  tls13Ciphers: null,
  protocols: 'secure',
  ecdhCurve: 'auto',
})
const opened: { destroy(): void }[] = []

afterEach(() => {
  for (const one of opened.splice(0)) one.destroy()
})

/** A channel that has TLS with its peer. */
async function pair(): Promise<{ channel: Channel; peer: TLSSocket }> {
  const { socket, peer: plain } = await socketPair()
  const channel = new Channel(socket)
  const peer = connectTls({
    socket: plain,
    servername: 'localhost',
    ca: readFileSync(authority.caFile),
    ALPNProtocols: ['postgresql'],
  })
  opened.push(peer, channel)
  await Promise.all([channel.upgrade((raw) => tls.wrap(raw), true), once(peer, 'secureConnect')])
  return { channel, peer }
}

/** Bytes that tell where they belong. */
function pattern(bytes: number): Buffer {
  const all = Buffer.allocUnsafe(bytes)
  for (let at = 0; at + 4 <= bytes; at += 4) all.writeUInt32BE(at, at)
  return all
}

function receiver(fields: Partial<Receiver>): Receiver {
  return { onBytes() {}, onDrain() {}, onClosed() {}, ...fields }
}

const BYTES = 4 * 1024 * 1024

describe('a channel with TLS', () => {
  test('speaks PostgreSQL in ALPN', async () => {
    const { channel, peer } = await pair()
    expect([channel.tls?.alpnProtocol, peer.alpnProtocol]).toEqual(['postgresql', 'postgresql'])
  })

  test('reads into the buffer that all channels share, in order, however often it is stopped', async () => {
    const { channel, peer } = await pair()
    peer.write('log-in')
    expect((await channel.read(6)).toString()).toBe('log-in')
    const whole = pattern(BYTES)
    const got: Buffer[] = []
    let length = 0
    const done = Promise.withResolvers<void>()
    channel.attach(
      receiver({
        onBytes(chunk) {
          expect(isShared(chunk)).toBe(true)
          got.push(Buffer.from(chunk))
          length += chunk.length
          if (length === BYTES) done.resolve()
          if (got.length % 3 !== 0) return
          channel.pause()
          setImmediate(() => channel.resume())
        },
      }),
    )
    peer.write(whole)
    await done.promise
    expect(Buffer.concat(got).equals(whole)).toBe(true)
  })

  test('sends back what it read, encrypted and whole, to a peer that reads slowly', async () => {
    const { channel, peer } = await pair()
    channel.attach(
      receiver({
        onBytes(chunk) {
          if (!channel.write(chunk)) channel.pause()
        },
        onDrain: () => channel.resume(),
      }),
    )
    const whole = pattern(BYTES)
    peer.write(whole)
    const got: Buffer[] = []
    let length = 0
    for await (const chunk of peer) {
      got.push(chunk)
      length += chunk.length
      if (length === BYTES) break
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(Buffer.concat(got).equals(whole)).toBe(true)
  })

  test('is closed once and without an error when its peer ends', async () => {
    const { channel, peer } = await pair()
    const closed = Promise.withResolvers<Error | null>()
    channel.attach(receiver({ onClosed: closed.resolve }))
    peer.end()
    expect(await closed.promise).toBe(null)
    expect(channel.isClosed).toBe(true)
  })
})
