import { createPrivateKey, createSign, createVerify, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:tls'
import { expect, test } from 'vitest'
import {
  type Certified,
  certificatesOf,
  endsAtMs,
  isIssued,
  issue,
  makeAuthority,
} from '../../../src/deploy/certificates.ts'

const NOW_MS = Date.now()
const DAY_MS = 86_400_000
const LEAF = { commonName: 'patroni1', names: ['patroni1', 'tasks.patroni1', '127.0.0.1'] }
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

const made = await makeAuthority('main', NOW_MS)
const issued = async (leaf: { commonName: string | null; names: string[] }, days = 90) =>
  await issue(made, leaf, { nowMs: NOW_MS, days })

test('the authority signs itself, may sign leaves and ends in ten years', () => {
  const authority = new X509Certificate(made.certificate)
  expect(authority.ca).toBe(true)
  expect(authority.verify(authority.publicKey)).toBe(true)
  expect(endsAtMs(made.certificate)).toBeCloseTo(NOW_MS + 3650 * DAY_MS, -4)
})

test('a leaf is signed by it, for both ends of a connection, on P-256, for its names only', async () => {
  const { certificate } = await issued(LEAF)
  const leaf = new X509Certificate(certificate)
  expect(leaf.verify(new X509Certificate(made.certificate).publicKey)).toBe(true)
  expect(leaf.checkIssued(new X509Certificate(made.certificate))).toBe(true)
  expect(leaf.ca).toBe(false)
  expect(leaf.keyUsage).toEqual([SERVER_AUTH, CLIENT_AUTH])
  expect(leaf.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1')
  expect(leaf.subject.split('\n')).toContain('CN=patroni1')
  expect(LEAF.names.slice(0, 2).map((name) => leaf.checkHost(name))).toEqual(LEAF.names.slice(0, 2))
  expect(leaf.checkIP('127.0.0.1')).toBe('127.0.0.1')
  expect(leaf.checkHost('patroni2')).toBeUndefined()
  expect(endsAtMs(certificate)).toBeCloseTo(NOW_MS + 90 * DAY_MS, -4)
})

test('a leaf without a common name has none, but a subject', async () => {
  const leaf = new X509Certificate(
    (await issued({ commonName: null, names: ['etcd1'] })).certificate,
  )
  expect(leaf.subject).toBe('O=pgsteer')
})

test('the key belongs to the certificate', async () => {
  const { certificate, key } = await issued(LEAF)
  const signature = createSign('sha256').update('text').sign(createPrivateKey(key))
  const verify = createVerify('sha256').update('text')
  expect(verify.verify(new X509Certificate(certificate).publicKey, signature)).toBe(true)
})

test('a certificate is good while it has the names, the common name and an authority of the bundle', async () => {
  const { certificate } = await issued(LEAF)
  const other = await makeAuthority('main', NOW_MS)
  expect(isIssued(certificate, LEAF, made.certificate)).toBe(true)
  expect(isIssued(certificate, LEAF, other.certificate + made.certificate)).toBe(true)
  expect(isIssued(certificate, LEAF, other.certificate)).toBe(false)
  expect(isIssued(certificate, { ...LEAF, names: ['agent1'] }, made.certificate)).toBe(false)
  expect(isIssued(certificate, { ...LEAF, commonName: 'admin' }, made.certificate)).toBe(false)
  expect(certificatesOf(other.certificate + made.certificate)).toHaveLength(2)
})

/** What each end says of the other in a handshake where both show a certificate. */
async function handshake(server: Certified, client: Certified, trusted: string) {
  const listening = createServer({
    cert: server.certificate,
    key: server.key,
    ca: trusted,
    requestCert: true,
    rejectUnauthorized: true,
  })
  listening.listen(0, '127.0.0.1')
  await once(listening, 'listening')
  const { port } = listening.address() as AddressInfo
  const accepted = once(listening, 'secureConnection')
  const socket = connect({
    port,
    host: '127.0.0.1',
    servername: 'etcd1',
    ca: trusted,
    cert: client.certificate,
    key: client.key,
  })
  try {
    const [, [peer]] = await Promise.all([once(socket, 'secureConnect'), accepted])
    return { server: socket.authorized, client: (peer as { authorized: boolean }).authorized }
  } finally {
    socket.destroy()
    listening.close()
  }
}

test('two leaves of one authority accept each other, each as server and as client', async () => {
  const [server, client] = await Promise.all([
    issued({ commonName: null, names: ['etcd1'] }),
    issued(LEAF),
  ])
  expect(await handshake(server, client, made.certificate)).toEqual({ server: true, client: true })
})

test('a leaf of another authority is refused', async () => {
  const stranger = await makeAuthority('main', NOW_MS)
  const server = await issue(
    stranger,
    { commonName: null, names: ['etcd1'] },
    { nowMs: NOW_MS, days: 90 },
  )
  await expect(handshake(server, await issued(LEAF), made.certificate)).rejects.toThrow(
    /self.signed|unable to verify|signature/i,
  )
})
