/**
 * The cluster's own certificate authority, and the certificates of its services: EC P-256, short-lived,
 * for both ends of a connection. etcd needs clientAuth in its server certificate, because its gateway
 * connects to itself with it. Does not know where keys are kept.
 */
// What @peculiar/x509 is built with asks for it, and does not bring it.
// oxlint-disable-next-line import/no-unassigned-import
import 'reflect-metadata'
import {
  createPrivateKey,
  KeyObject,
  X509Certificate as NodeCertificate,
  webcrypto,
} from 'node:crypto'
import { isIP } from 'node:net'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'

/** A certificate and its key, as PEM. */
export interface Certified {
  readonly certificate: string
  readonly key: string
}

export interface Leaf {
  /** pgBackRest knows its peers by it; null for etcd, which would take it for a user's name. */
  readonly commonName: string | null
  /** Host names and addresses. */
  readonly names: readonly string[]
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY_MS = 86_400_000
const AUTHORITY_DAYS = 3650
/** Clocks of nodes may be behind the one that signed. */
const SKEW_MS = 5 * 60_000

/** A new authority, valid for ten years, which may sign leaves but no other authority. */
export async function makeAuthority(cluster: string, nowMs: number): Promise<Certified> {
  const keys = await makeKeys()
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: [{ O: [cluster] }, { CN: [`${cluster} CA`] }],
    notBefore: new Date(nowMs - SKEW_MS),
    notAfter: new Date(nowMs + AUTHORITY_DAYS * DAY_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { certificate: pemOf(certificate), key: keyPem(keys.privateKey) }
}

/** A certificate that `authority` signs, good for serving and for connecting. */
export async function issue(
  authority: Certified,
  { commonName, names }: Leaf,
  { nowMs, days }: { nowMs: number; days: number },
): Promise<Certified> {
  const issuer = new X509Certificate(authority.certificate)
  const keys = await makeKeys()
  const certificate = await X509CertificateGenerator.create({
    // An empty subject would have to make the names critical, which not every program accepts.
    subject: [{ O: ['pgsteer'] }, ...(commonName === null ? [] : [{ CN: [commonName] }])],
    issuer: issuer.subjectName,
    notBefore: new Date(nowMs - SKEW_MS),
    notAfter: new Date(nowMs + days * DAY_MS),
    publicKey: keys.publicKey,
    signingKey: await importKey(authority.key),
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value })),
      ),
      await AuthorityKeyIdentifierExtension.create(issuer),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { certificate: pemOf(certificate), key: keyPem(keys.privateKey) }
}

/** When the first certificate of a PEM text ends, in milliseconds since 1970. */
export function endsAtMs(pem: string): number {
  return new NodeCertificate(pem).validToDate.getTime()
}

/** Whether a certificate still is what `leaf` asks for, as signed by one of the bundle's authorities. */
export function isIssued(pem: string, { commonName, names }: Leaf, bundle: string): boolean {
  const certificate = new NodeCertificate(pem)
  const hasName = (name: string): boolean =>
    isIP(name) === 0
      ? certificate.checkHost(name, { subject: 'never' }) !== undefined
      : certificate.checkIP(name) !== undefined
  const subject = certificate.subject.split('\n')
  const isNamed = commonName === null || subject.includes(`CN=${commonName}`)
  return (
    isNamed &&
    names.every(hasName) &&
    certificatesOf(bundle).some((one) => isSignedBy(certificate, one))
  )
}

function isSignedBy(certificate: NodeCertificate, authority: string): boolean {
  return certificate.verify(new NodeCertificate(authority).publicKey)
}

/** The PEM texts of a bundle, one by one. */
export function certificatesOf(bundle: string): string[] {
  return bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g) ?? []
}

async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
}

async function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const der = createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' })
  return await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign'])
}

function keyPem(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString()
}

function pemOf(certificate: X509Certificate): string {
  return `${certificate.toString('pem').trimEnd()}\n`
}
