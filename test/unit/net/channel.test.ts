import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { Channel, DRAIN_BYTES, type Receiver } from '../../../src/net/channel.ts'
import { SCRATCH, scratchFronts } from '../../../src/net/scratch.ts'
import { isShared, joined } from '../../../src/net/shared-read.ts'
import { socketPair } from '../../support/sockets.ts'

const opened: { destroy(): void }[] = []

afterEach(() => {
  for (const one of opened.splice(0)) one.destroy()
})

/** A channel on an accepted socket, and the peer's socket. */
async function pair(): Promise<{ channel: Channel; socket: Socket; peer: Socket }> {
  const { socket, peer } = await socketPair()
  const channel = new Channel(socket)
  opened.push(peer, channel)
  return { channel, socket, peer }
}

function receiver(fields: Partial<Receiver>): Receiver {
  return { onBytes() {}, onDrain() {}, onClosed() {}, ...fields }
}

/** Resolves when `bytes` bytes came. */
async function collect(peer: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of peer) {
    chunks.push(chunk)
    length += chunk.length
    if (length >= bytes) break
  }
  return Buffer.concat(chunks)
}

describe('a channel that somebody logs in on', () => {
  test('gives what came between two reads to the second', async () => {
    const { channel, peer } = await pair()
    peer.write('one')
    expect((await channel.read(3)).toString()).toBe('one')
    peer.write('two')
    while (channel.unreadBytes < 3) await new Promise((resolve) => setImmediate(resolve))
    expect((await channel.read(3)).toString()).toBe('two')
  })

  test('takes no more than its bound while nobody reads, and all of it in the end', async () => {
    const { channel, peer } = await pair()
    peer.write('x')
    await channel.read(1)
    const part = 32 * 1024
    const parts = 256
    for (let number = 0; number < parts; number += 1) peer.write(Buffer.alloc(part, number))
    while (channel.unreadBytes <= 64 * 1024) await new Promise((resolve) => setImmediate(resolve))
    for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(channel.unreadBytes).toBeLessThan(256 * 1024)
    for (let number = 0; number < parts; number += 1)
      expect((await channel.read(part)).equals(Buffer.alloc(part, number))).toBe(true)
  })

  test('sends what is held back with what is written next, once', async () => {
    const { channel, peer } = await pair()
    channel.hold(Buffer.from('one,'))
    channel.hold(Buffer.from('two,'))
    channel.write(Buffer.from('three.'))
    channel.write(Buffer.from('end'))
    expect((await collect(peer, 17)).toString()).toBe('one,two,three.end')
    expect(channel.bytesSent).toBe(17)
  })

  test('that gathers sends what is written in one turn as one piece, and longer pieces as they come', async () => {
    const { channel, peer } = await pair()
    channel.gather()
    channel.write(Buffer.alloc(3))
    channel.write(Buffer.alloc(4))
    expect(channel.bytesSent).toBe(0)
    await Promise.resolve()
    expect(channel.bytesSent).toBe(7)
    channel.write(Buffer.alloc(20_000))
    expect(channel.bytesSent).toBe(20_007)
    channel.write(Buffer.alloc(5))
    channel.close()
    expect(channel.bytesSent).toBe(20_012)
    expect(await collect(peer, 20_013)).toHaveLength(20_012)
  })

  test('sends what is held back before it ends', async () => {
    const { channel, peer } = await pair()
    channel.hold(Buffer.from('last'))
    channel.close()
    expect((await collect(peer, 5)).toString()).toBe('last')
  })
})

describe('a channel whose peer is done', () => {
  test('is gone at once when all was sent', async () => {
    const { channel, peer } = await pair()
    const closed = Promise.withResolvers<Error | null>()
    channel.attach(receiver({ onClosed: closed.resolve }))
    channel.write(Buffer.from('bye'))
    channel.hangUp()
    expect((await collect(peer, 4)).toString()).toBe('bye')
    // The peer has not ended its side.
    expect(await closed.promise).toBe(null)
  })

  test('sends first what the kernel has not taken yet', async () => {
    const { channel, peer } = await pair()
    channel.attach(receiver({}))
    const whole = 32 * 1024 * 1024
    channel.write(Buffer.alloc(whole))
    expect(channel.unsentBytes).toBeGreaterThan(0)
    channel.hangUp()
    expect(await collect(peer, whole + 1)).toHaveLength(whole)
  })

  test('that ends its side after we ended ours closes without an error', async () => {
    const { channel, peer } = await pair()
    const closed = Promise.withResolvers<Error | null>()
    channel.attach(receiver({ onClosed: closed.resolve }))
    channel.close()
    peer.end()
    expect(await closed.promise).toBe(null)
  })
})

describe('a channel with a receiver', () => {
  test('what was left of a read is put in front of the next, which is not copied', async () => {
    const { channel, peer } = await pair()
    const front = Buffer.from('left over, ')
    const joinedUp = new Promise<readonly [string, boolean]>((resolve) => {
      channel.attach(
        receiver({
          onBytes: (chunk) => {
            const whole = joined(front, chunk)
            resolve([whole.toString(), whole.buffer === chunk.buffer])
          },
        }),
      )
    })
    peer.write('and more')
    expect(await joinedUp).toEqual(['left over, and more', true])
    const long = Buffer.alloc(20_000, 'x')
    expect(joined(long, front).equals(Buffer.concat([long, front]))).toBe(true)
  })

  test('is given what came before the receiver first, in order', async () => {
    const { channel, peer } = await pair()
    peer.write('log-in,')
    expect((await channel.read(6)).toString()).toBe('log-in')
    peer.write('one,')
    const got: string[] = []
    const done = Promise.withResolvers<void>()
    channel.attach(
      receiver({
        onBytes: (chunk) => {
          got.push(chunk.toString())
          if (got.join('').endsWith('two')) done.resolve()
        },
      }),
    )
    peer.write('two')
    await done.promise
    expect(got.join('')).toBe(',one,two')
  })

  test('reads into the buffer that all channels share', async () => {
    const { channel, peer } = await pair()
    const shared = new Promise<boolean>((resolve) => {
      channel.attach(receiver({ onBytes: (chunk) => resolve(isShared(chunk)) }))
    })
    peer.write('x')
    expect(await shared).toBe(true)
  })

  test('sends on what it read, whole, to a peer that reads slowly', async () => {
    const { channel: from, peer: source } = await pair()
    const { channel: to, peer: sink } = await pair()
    const sent = Buffer.alloc(8 * 1024 * 1024)
    for (let at = 0; at < sent.length; at += 4) sent.writeUInt32BE(at, at)
    const held = Promise.withResolvers<void>()
    to.attach(receiver({ onDrain: () => from.resume() }))
    from.attach(
      receiver({
        onBytes: (chunk) => {
          if (to.write(chunk)) return
          from.pause()
          held.resolve()
        },
      }),
    )
    source.write(sent)
    // Nobody reads yet: the kernel's buffers fill, and the rest waits in the channel.
    await held.promise
    const got = await collect(sink, sent.length)
    expect(got.equals(sent)).toBe(true)
    expect(to.bytesSent).toBe(sent.length)
  })

  test('takes a copy of what is in the scratch buffer and does not go out at once', async () => {
    const { channel, peer } = await pair()
    channel.attach(receiver({}))
    const filler = Buffer.alloc(1024 * 1024, 0x61)
    let sent = 0
    while (channel.write(filler)) sent += filler.length
    sent += filler.length
    SCRATCH.fill(0x62)
    channel.write(scratchFronts.of(1000))
    SCRATCH.fill(0x63)
    const got = await collect(peer, sent + 1000)
    expect(got.subarray(sent).equals(Buffer.alloc(1000, 0x62))).toBe(true)
  })

  test('sends short pieces whole and in order that the kernel does not take at once', async () => {
    const { channel, peer } = await pair()
    const { channel: other } = await pair()
    for (const one of [channel, other]) one.attach(receiver({}))
    let pieces = 0
    const write = (): boolean => {
      SCRATCH.fill(pieces % 251)
      pieces += 1
      return channel.write(scratchFronts.of(10_000))
    }
    while (channel.unsentBytes === 0) write()
    expect(channel.unsentBytes).toBeLessThanOrEqual(10_000)
    // What another writes is not put where the rest of it is.
    SCRATCH.fill(254)
    other.write(scratchFronts.of(10_000))
    while (write()) {}
    SCRATCH.fill(255)
    // What is under way goes out before the end does.
    channel.close()
    const got = await collect(peer, pieces * 10_000)
    const wanted = Array.from({ length: pieces }, (_, index) => Buffer.alloc(10_000, index % 251))
    expect(got.equals(Buffer.concat(wanted))).toBe(true)
    expect(channel.bytesSent).toBe(pieces * 10_000)
  })

  test('has nothing unsent when its peer has read everything', async () => {
    const { channel, peer } = await pair()
    channel.attach(receiver({}))
    let sent = 0
    while (channel.unsentBytes === 0) {
      channel.write(Buffer.alloc(10_000))
      sent += 10_000
    }
    await collect(peer, sent)
    while (channel.unsentBytes > 0) await new Promise((resolve) => setImmediate(resolve))
    channel.write(Buffer.from('one more'))
    expect(channel.unsentBytes).toBe(0)
  })

  test('that has so much unsent tells of a drain, however short the pieces are', async () => {
    const { channel, peer } = await pair()
    const drained = Promise.withResolvers<number>()
    channel.attach(receiver({ onDrain: () => drained.resolve(channel.unsentBytes) }))
    while (channel.unsentBytes < DRAIN_BYTES) channel.write(Buffer.alloc(1000))
    peer.resume()
    expect(await drained.promise).toBe(0)
  })

  test('ends when what is under way cannot be sent any more', async () => {
    const { channel, peer } = await pair()
    const closed = Promise.withResolvers<void>()
    channel.attach(receiver({ onClosed: () => closed.resolve() }))
    while (channel.unsentBytes === 0) channel.write(Buffer.alloc(10_000))
    peer.resetAndDestroy()
    await closed.promise
    expect(channel.isClosed).toBe(true)
  })

  test('says why it ends when what is under way fails and nobody reads', async () => {
    const { channel, peer } = await pair()
    const closed = Promise.withResolvers<Error | null>()
    channel.attach(receiver({ onClosed: closed.resolve }))
    channel.pause()
    while (channel.unsentBytes === 0) channel.write(Buffer.alloc(10_000))
    peer.resetAndDestroy()
    expect((await closed.promise)?.message).toMatch(/^write (ECONNRESET|EPIPE)$/)
  })

  test('that is destroyed by us with something under way ends without a reason', async () => {
    const { channel } = await pair()
    const closed = Promise.withResolvers<Error | null>()
    channel.attach(receiver({ onClosed: closed.resolve }))
    while (channel.unsentBytes === 0) channel.write(Buffer.alloc(10_000))
    channel.destroy()
    expect(await closed.promise).toBeNull()
  })

  test('writes nothing more once its socket is destroyed, whoever has the descriptor then', async () => {
    const { channel, socket } = await pair()
    channel.attach(receiver({}))
    const folder = mkdtempSync(join(tmpdir(), 'pgsteer-channel-'))
    // Not by the channel: as Node does it after a read error. The file gets the free descriptor.
    socket.destroy()
    const files = Array.from({ length: 8 }, (_, index) => openSync(join(folder, `${index}`), 'w'))
    try {
      channel.write(Buffer.from('for another'))
      expect(files.map((file) => fstatSync(file).size)).toEqual(files.map(() => 0))
    } finally {
      for (const file of files) closeSync(file)
      rmSync(folder, { recursive: true })
    }
  })

  test('is closed once, when the peer ends', async () => {
    const { channel, peer } = await pair()
    const closed = new Promise<Error | null>((resolve) => {
      channel.attach(receiver({ onClosed: resolve }))
    })
    peer.end('last words')
    expect(await closed).toBeNull()
    expect(channel.bytesReceived).toBe('last words'.length)
    expect(channel.write(Buffer.from('too late'))).toBe(true)
  })
})
