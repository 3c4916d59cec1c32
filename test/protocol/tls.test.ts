import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectPlain, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { hmac, KeyDeriver } from '../../src/auth/derive.ts'
import { ClientTls, clientTlsSettings, endPointHash, type TlsSettings } from '../../src/net/tls.ts'
import { frontend } from '../support/bytes.ts'
import { Authority, type Pair } from '../support/certificates.ts'
import { Front, type FrontOptions } from '../support/front.ts'
import { ScramClient } from '../support/scram.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const directory = mkdtempSync(join(tmpdir(), 'pgsteer-tls-'))
const authority = new Authority(join(directory, 'ours'))
const strangers = new Authority(join(directory, 'theirs'))
const server = authority.issue({ commonName: 'localhost', names: 'DNS:localhost,IP:127.0.0.1' })
const alice = authority.issue({ commonName: 'alice' })
const stranger = strangers.issue({ commonName: 'alice' })
const expired = authority.issue({ commonName: 'alice', days: -1 })

const fronts: Front[] = []
const sockets: Socket[] = []

afterEach(async () => {
  // TLS before the socket beneath it: Node 24 crashes when the latter goes first in a handshake's tick.
  for (const socket of sockets.splice(0).toReversed()) socket.destroy()
  for (const front of fronts.splice(0)) await front.close()
})
afterAll(() => rmSync(directory, { recursive: true }))

const tlsKeys = (mode: string, pair: Pair = server): string =>
  `client_tls_sslmode = ${mode}\nclient_tls_cert_file = ${pair.certFile}\n` +
  `client_tls_key_file = ${pair.keyFile}\nclient_tls_ca_file = ${authority.caFile}\n`

async function open(mode: string, options: FrontOptions = {}): Promise<Front> {
  const keys = `${tlsKeys(mode)}${options.keys ?? 'auth_type = trust'}`
  const front = await Front.open({ userlist: '"alice" "secret"\n', ...options, keys })
  fronts.push(front)
  return front
}

async function plain(front: Front): Promise<Socket> {
  const socket = connectPlain({ host: '127.0.0.1', port: front.port, noDelay: true })
  sockets.push(socket)
  await once(socket, 'connect')
  return socket
}

/** SSLRequest, its answer, and the handshake. */
async function secured(front: Front, options: ConnectionOptions = {}): Promise<WireClient> {
  const socket = await plain(front)
  socket.write(frontend.sslRequest())
  const [answer] = (await once(socket, 'data')) as [Buffer]
  expect(answer.toString()).toBe('S')
  return new WireClient(await handshake(socket, options))
}

async function handshake(socket: Socket, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const ca = readFileSync(authority.caFile)
  const tls = connectTls({ socket, ca, servername: 'localhost', ...options })
  sockets.push(tls)
  await once(tls, 'secureConnect')
  return tls
}

const withPair = (pair: Pair): ConnectionOptions => ({
  cert: readFileSync(pair.certFile),
  key: readFileSync(pair.keyFile),
})

const startup = { user: 'alice', database: 'app', password: 'secret' }

describe('TLS from clients', () => {
  it('follows SSLRequest', async () => {
    const client = await secured(await open('require'))
    expect((await client.startup(startup)).status).toBe('I')
  })

  it('may begin at once with the ALPN protocol of PostgreSQL', async () => {
    const front = await open('require')
    const options = { ALPNProtocols: ['postgresql'] }
    const client = new WireClient(await handshake(await plain(front), options))
    expect((await client.startup(startup)).status).toBe('I')
  })

  it('that begins at once without ALPN is refused', async () => {
    const front = await open('require')
    const client = new WireClient(await handshake(await plain(front)))
    const answer = await client.until('E')
    expect(answer.errors[0]?.['M']).toBe(
      'direct TLS connection without the ALPN protocol "postgresql"',
    )
  })

  it('that begins at once is closed where there is no TLS', async () => {
    const front = await Front.open()
    fronts.push(front)
    const options = { ALPNProtocols: ['postgresql'] }
    await expect(handshake(await plain(front), options)).rejects.toThrow()
    expect((await waitFor('the refusal', () => front.refusals[0])).code).toBe('client_tls')
  })

  it('that a RELOAD brings is for those who come later', async () => {
    const front = await Front.open({ keys: 'auth_type = trust', userlist: '"alice" "secret"\n' })
    fronts.push(front)
    const early = await plain(front)
    early.write(frontend.gssEncRequest())
    expect(((await once(early, 'data')) as [Buffer])[0].toString()).toBe('N')
    const { config } = (await open('require')).context
    front.context.tls.reload(clientTlsSettings(config.pgbouncer))
    early.write(frontend.sslRequest())
    expect(((await once(early, 'data')) as [Buffer])[0].toString()).toBe('N')
    expect((await (await secured(front)).startup(startup)).status).toBe('I')
  })

  it('is what require asks for', async () => {
    const front = await open('require')
    const client = new WireClient(await plain(front))
    const answer = await client.startup(startup)
    expect(answer.errors[0]?.['M']).toBe('SSL required')
  })

  it('is what allow and prefer do without', async () => {
    for (const mode of ['allow', 'prefer']) {
      const client = new WireClient(await plain(await open(mode)))
      expect((await client.startup(startup)).status).toBe('I')
    }
  })

  it('is not begun behind bytes that were sent in clear', async () => {
    const front = await open('prefer')
    const client = new WireClient(await plain(front))
    client.send(frontend.sslRequest(), frontend.startup(startup))
    await client.ended()
    expect(front.refusals[0]?.message).toBe('received unencrypted data after SSL request')
  })

  it('that is no TLS ends the connection without a word', async () => {
    const front = await open('prefer')
    const socket = await plain(front)
    socket.write(frontend.sslRequest())
    await once(socket, 'data')
    socket.write(Buffer.alloc(600, 'x'))
    await once(socket, 'close')
    expect((await waitFor('the refusal', () => front.refusals[0])).code).toBe('client_tls')
  })

  it('that never begins ends with the log-in timeout', async () => {
    const front = await open('prefer', { keys: 'auth_type = trust\nclient_login_timeout = 0.05' })
    const socket = await plain(front)
    socket.write(frontend.sslRequest())
    await once(socket, 'data')
    socket.resume()
    await once(socket, 'close')
    expect(front.refusals[0]?.code).toBe('client_login_timeout')
  })

  it('is offered once', async () => {
    const front = await open('require')
    const client = await secured(front)
    client.send(frontend.sslRequest())
    const answer = await client.until('E')
    expect(answer.errors[0]?.['M']).toMatch(/^unsupported frontend protocol 1234\.5679/)
  })

  it('carries cancel requests', async () => {
    const front = await open('require')
    const client = await secured(front)
    client.send(frontend.cancelRequest(7, 9))
    await client.ended()
    expect(front.arrivals).toEqual([
      { kind: 'cancel', processId: 7, secret: Buffer.of(0, 0, 0, 9) },
    ])
  })
})

describe('client certificates', () => {
  it('prove the user under auth_type = cert', async () => {
    const front = await open('verify-full', { keys: 'auth_type = cert' })
    const client = await secured(front, withPair(alice))
    expect((await client.startup(startup)).status).toBe('I')
  })

  it.each([
    ['nobody', {}],
    ['an authority that is not ours', withPair(stranger)],
    ['an authority of ours, long ago', withPair(expired)],
  ])('by %s are refused', async (_, options) => {
    const front = await open('verify-full', { keys: 'auth_type = cert' })
    const client = await secured(front, options)
    const answer = await client.startup(startup)
    expect(answer.errors[0]?.['M']).toBe('certificate authentication failed')
  })

  it('that cannot be believed are refused even where none is needed', async () => {
    const front = await open('prefer')
    const client = await secured(front, withPair(stranger))
    expect((await client.startup(startup)).errors[0]?.['M']).toBe(
      'certificate authentication failed',
    )
  })

  it('are needed under the method cert, wherever else they are not', async () => {
    const front = await open('prefer', { keys: 'auth_type = hba', hba: 'host all all all cert\n' })
    for (const client of [await secured(front), new WireClient(await plain(front))]) {
      const answer = await client.startup(startup)
      expect(answer.errors[0]?.['M']).toBe('certificate authentication failed')
    }
    const client = await secured(front, withPair(alice))
    expect((await client.startup(startup)).status).toBe('I')
  })

  it('do not make their owner somebody else', async () => {
    const userlist = '"alice" "x"\n"bob" "x"\n'
    const front = await open('verify-full', { keys: 'auth_type = cert', userlist })
    const client = await secured(front, withPair(alice))
    const answer = await client.startup({ ...startup, user: 'bob' })
    expect(answer.errors[0]?.['M']).toBe('certificate authentication failed')
  })

  it('name the user through the ident map', async () => {
    const ident = join(directory, 'ident.conf')
    writeFileSync(ident, 'certs alice bob\n')
    const front = await open('verify-full', {
      keys: `auth_type = hba\nauth_ident_file = ${ident}`,
      hba: 'hostssl all all all cert map=certs\n',
      userlist: '"alice" "x"\n"bob" "x"\n',
    })
    const client = await secured(front, withPair(alice))
    expect((await client.startup({ ...startup, user: 'bob' })).status).toBe('I')
    const other = await secured(front, withPair(alice))
    expect((await other.startup(startup)).errors).toHaveLength(1)
  })
})

describe('SCRAM over TLS', () => {
  const keys = 'auth_type = scram-sha-256'

  it('offers -PLUS first, and takes it', async () => {
    const front = await open('require', { keys })
    const client = await secured(front)
    client.send(frontend.startup({ user: 'alice', database: 'app' }))
    const offer = await client.next()
    expect(offer?.body.toString('latin1', 4)).toBe('SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0')
    const final = await boundProof(client, new X509Certificate(readFileSync(server.certFile)))
    client.send(frontend.saslResponse(final))
    expect((await client.ready()).status).toBe('I')
  })

  it('refuses a binding to another certificate', async () => {
    const front = await open('require', { keys })
    const client = await secured(front)
    client.send(frontend.startup({ user: 'alice', database: 'app' }))
    await client.next()
    const final = await boundProof(client, new X509Certificate(readFileSync(alice.certFile)))
    client.send(frontend.saslResponse(final))
    const answer = await client.until('EZ')
    expect(answer.errors[0]?.['M']).toBe('SASL authentication failed')
  })

  it('serves clients that cannot bind', async () => {
    const client = await secured(await open('require', { keys }))
    expect((await client.startup(startup)).status).toBe('I')
  })
})

/** The client's side of -PLUS as far as its final message. */
async function boundProof(client: WireClient, certificate: X509Certificate): Promise<string> {
  const header = 'p=tls-server-end-point,,'
  const bare = new ScramClient('secret').first.slice(3)
  client.send(frontend.saslInitial('SCRAM-SHA-256-PLUS', `${header}${bare}`))
  const serverFirst = (await client.next())?.body.toString('utf8', 4) ?? ''
  const [, nonce, salt, iterations] = /r=([^,]+),s=([^,]+),i=(\d+)/.exec(serverFirst) ?? []
  const keys = await new KeyDeriver().keys(
    'secret',
    Buffer.from(salt ?? '', 'base64'),
    Number(iterations),
  )
  const hash = createHash('sha256').update(certificate.raw).digest()
  const binding = Buffer.concat([Buffer.from(header), hash]).toString('base64')
  const withoutProof = `c=${binding},r=${nonce}`
  const signature = hmac(keys.storedKey, `${bare},${serverFirst},${withoutProof}`)
  const proof = Buffer.from(keys.clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)))
  return `${withoutProof},p=${proof.toString('base64')}`
}

describe('TLS settings', () => {
  const settings: TlsSettings = {
    sslmode: 'require',
    caFile: null,
    certFile: server.certFile,
    keyFile: server.keyFile,
    ciphers: 'default',
    tls13Ciphers: null,
    protocols: 'secure',
    ecdhCurve: 'auto',
  }
  const empty = join(directory, 'empty')
  writeFileSync(empty, '')

  it.each([
    ['no certificate', { certFile: null }, 'needs client_tls_cert_file'],
    ['a missing file', { certFile: '/nowhere' }, 'client_tls_cert_file: ENOENT'],
    ['a file that holds no certificate', { certFile: empty }, 'holds no certificate'],
    ['a file that holds no key', { keyFile: server.certFile }, 'client_tls_key_file'],
    ['the key of another', { keyFile: alice.keyFile }, "is not the certificate's key"],
    ['no authority', { sslmode: 'verify-ca' as const }, 'needs client_tls_ca_file'],
    ['an authority that is none', { caFile: empty }, 'holds no certificate'],
    ['unknown ciphers', { ciphers: 'NONSENSE', tls13Ciphers: 'NONSENSE' }, 'client_tls: '],
    ['no version', { protocols: '!all' }, 'leaves no version'],
  ])('with %s are refused and leave what was there', (_, change, text) => {
    const tls = new ClientTls(settings)
    const { binding } = tls
    expect(() => tls.reload({ ...settings, ...change })).toThrow(text)
    expect(tls.binding).toBe(binding)
    expect(tls.isRequired).toBe(true)
  })

  it('take a new certificate for those who come after', async () => {
    const pair = { certFile: join(directory, 'live.crt'), keyFile: join(directory, 'live.key') }
    const replace = (by: Pair): void => {
      copyFileSync(by.certFile, pair.certFile)
      copyFileSync(by.keyFile, pair.keyFile)
    }
    replace(server)
    const tls = new ClientTls({ ...settings, ...pair })
    const front = await open('require', { context: { tls } })
    const nameOf = async (): Promise<unknown> => {
      const client = await secured(front, { rejectUnauthorized: false })
      return (client.socket as TLSSocket).getPeerCertificate().subject.CN
    }
    expect(await nameOf()).toBe('localhost')
    replace(alice)
    tls.reload({ ...settings, ...pair })
    expect(await nameOf()).toBe('alice')
  })

  it.each([
    ['tlsv1.2', 'TLSv1.2'],
    ['tlsv1.3', 'TLSv1.3'],
    ['all,!tlsv1.3', 'TLSv1.2'],
    ['secure', 'TLSv1.3'],
  ])('with protocols = %s speak %s', async (protocols, version) => {
    const front = await open('require', {
      context: { tls: new ClientTls({ ...settings, protocols }) },
    })
    const client = await secured(front)
    expect((client.socket as TLSSocket).getProtocol()).toBe(version)
  })

  it('know the end point hash of RFC 5929', () => {
    const certificate = new X509Certificate(readFileSync(server.certFile))
    expect(endPointHash(certificate)).toEqual(createHash('sha256').update(certificate.raw).digest())
  })
})
