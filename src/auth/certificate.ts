/**
 * Who a client certificate says it is. Whether the certificate may be believed is decided by the
 * TLS handshake (net/tls.ts); whether the name may be the user, by the ident map (hba.ts).
 */

/** The parts of Node's PeerCertificate that are read. */
export interface CertificateSubject {
  readonly subject?: { readonly CN?: string | string[] | undefined }
}

/**
 * The common name, or null where there is none that can be trusted: several names or a zero byte
 * in it are how certificates are forged (CVE-2009-2408 class).
 */
export function certificateName(certificate: CertificateSubject | null): string | null {
  const name = certificate?.subject?.CN
  if (typeof name !== 'string' || name === '' || name.includes('\0')) return null
  return name
}
