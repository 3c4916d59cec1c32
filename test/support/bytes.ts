/**
 * Protocol messages as bytes, for tests. Written from the PostgreSQL manual's "Message Formats" (protocol 3.0 and
 * 3.2) and independent of src/wire, so that an encoder and a decoder of ours cannot agree by
 * sharing a mistake.
 */

/** Numbers are single bytes. */
type Part = Buffer | string | number

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** String of the manual: bytes and a terminator. */
const cstring = (text: string): Buffer => Buffer.from(`${text}\0`, 'utf8')

const join = (parts: readonly Part[]): Buffer =>
  Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'number') return Buffer.of(part)
      return typeof part === 'string' ? Buffer.from(part, 'utf8') : part
    }),
  )

export const raw = { int16, int32, cstring, join }

/** Any message: type byte, Int32 length that counts itself, body. */
export function message(type: string, ...body: readonly Part[]): Buffer {
  const content = join(body)
  return Buffer.concat([Buffer.from(type, 'latin1'), int32(content.length + 4), content])
}

/** A message without a type byte, as the first ones of a connection are. */
function untyped(code: number, ...body: readonly Part[]): Buffer {
  const content = join(body)
  return Buffer.concat([int32(content.length + 8), int32(code), content])
}

/** Value of a parameter or a column; null is NULL. */
export type Value = string | Buffer | null

const counted = (value: Value): Buffer => {
  if (value === null) return int32(-1)
  const content = typeof value === 'string' ? Buffer.from(value, 'utf8') : value
  return Buffer.concat([int32(content.length), content])
}

const pairs = (values: Readonly<Record<string, string>>): Buffer =>
  Buffer.concat([
    ...Object.entries(values).flatMap(([name, value]) => [cstring(name), cstring(value)]),
    Buffer.of(0),
  ])

const list = <T>(values: readonly T[], encode: (value: T) => Buffer): Buffer =>
  Buffer.concat([int16(values.length), ...values.map(encode)])

export interface Bind {
  readonly portal?: string
  readonly statement?: string
  readonly values?: readonly Value[]
  /** 0 text, 1 binary. */
  readonly formats?: readonly number[]
  readonly resultFormats?: readonly number[]
}

/** What a client sends. */
export const frontend = {
  startup: (parameters: Readonly<Record<string, string>>, major = 3, minor = 0): Buffer =>
    untyped((major << 16) | minor, pairs(parameters)),
  sslRequest: (): Buffer => untyped(80_877_103),
  gssEncRequest: (): Buffer => untyped(80_877_104),
  cancelRequest: (processId: number, key: number | Buffer): Buffer =>
    untyped(80_877_102, int32(processId), typeof key === 'number' ? int32(key) : key),
  password: (text: string): Buffer => message('p', cstring(text)),
  saslInitial: (mechanism: string, response: string): Buffer =>
    message('p', cstring(mechanism), counted(response)),
  saslResponse: (response: string): Buffer => message('p', response),
  query: (sql: string): Buffer => message('Q', cstring(sql)),
  parse: (name: string, sql: string, types: readonly number[] = []): Buffer =>
    message('P', cstring(name), cstring(sql), list(types, int32)),
  bind: (bind: Bind = {}): Buffer =>
    message(
      'B',
      cstring(bind.portal ?? ''),
      cstring(bind.statement ?? ''),
      list(bind.formats ?? [], int16),
      list(bind.values ?? [], counted),
      list(bind.resultFormats ?? [], int16),
    ),
  describe: (kind: 'S' | 'P', name = ''): Buffer => message('D', kind, cstring(name)),
  execute: (portal = '', rowsMax = 0): Buffer => message('E', cstring(portal), int32(rowsMax)),
  close: (kind: 'S' | 'P', name = ''): Buffer => message('C', kind, cstring(name)),
  sync: (): Buffer => message('S'),
  flush: (): Buffer => message('H'),
  copyData: (bytes: Part): Buffer => message('d', bytes),
  copyDone: (): Buffer => message('c'),
  copyFail: (reason: string): Buffer => message('f', cstring(reason)),
  functionCall: (oid: number, values: readonly Value[]): Buffer =>
    message('F', int32(oid), int16(0), list(values, counted), int16(0)),
  terminate: (): Buffer => message('X'),
}

export interface Column {
  readonly name: string
  readonly type?: number
}

const column = ({ name, type = 25 }: Column): Buffer =>
  Buffer.concat([cstring(name), int32(0), int16(0), int32(type), int16(-1), int32(-1), int16(0)])

const fields = (values: Readonly<Record<string, string>>): Buffer =>
  Buffer.concat([
    ...Object.entries(values).map(([code, value]) =>
      Buffer.concat([Buffer.from(code), cstring(value)]),
    ),
    Buffer.of(0),
  ])

const report = (type: string, severity: string, sqlstate: string, text: string): Buffer =>
  message(type, fields({ S: severity, V: severity, C: sqlstate, M: text }))

/** What a server sends. */
export const backend = {
  authenticationOk: (): Buffer => message('R', int32(0)),
  authenticationCleartext: (): Buffer => message('R', int32(3)),
  authenticationMd5: (salt: Buffer): Buffer => message('R', int32(5), salt),
  authenticationSasl: (mechanisms: readonly string[]): Buffer =>
    message('R', int32(10), ...mechanisms.map(cstring), 0),
  authenticationSaslContinue: (text: string): Buffer => message('R', int32(11), text),
  authenticationSaslFinal: (text: string): Buffer => message('R', int32(12), text),
  negotiateProtocolVersion: (minor: number, options: readonly string[]): Buffer =>
    message('v', int32(minor), int32(options.length), ...options.map(cstring)),
  parameterStatus: (name: string, value: string): Buffer =>
    message('S', cstring(name), cstring(value)),
  backendKeyData: (processId: number, key: number | Buffer): Buffer =>
    message('K', int32(processId), typeof key === 'number' ? int32(key) : key),
  readyForQuery: (status: 'I' | 'T' | 'E' = 'I'): Buffer => message('Z', status),
  rowDescription: (columns: readonly Column[]): Buffer => message('T', list(columns, column)),
  dataRow: (values: readonly Value[]): Buffer => message('D', list(values, counted)),
  commandComplete: (tag: string): Buffer => message('C', cstring(tag)),
  emptyQueryResponse: (): Buffer => message('I'),
  parseComplete: (): Buffer => message('1'),
  bindComplete: (): Buffer => message('2'),
  closeComplete: (): Buffer => message('3'),
  noData: (): Buffer => message('n'),
  portalSuspended: (): Buffer => message('s'),
  parameterDescription: (types: readonly number[]): Buffer => message('t', list(types, int32)),
  errorResponse: (sqlstate: string, text: string, severity = 'ERROR'): Buffer =>
    report('E', severity, sqlstate, text),
  noticeResponse: (sqlstate: string, text: string, severity = 'NOTICE'): Buffer =>
    report('N', severity, sqlstate, text),
  notificationResponse: (processId: number, channel: string, payload: string): Buffer =>
    message('A', int32(processId), cstring(channel), cstring(payload)),
  copyInResponse: (columns: number): Buffer =>
    message('G', 0, int16(columns), ...Array.from({ length: columns }, () => int16(0))),
  copyOutResponse: (columns: number): Buffer =>
    message('H', 0, int16(columns), ...Array.from({ length: columns }, () => int16(0))),
  copyBothResponse: (columns: number): Buffer =>
    message('W', 0, int16(columns), ...Array.from({ length: columns }, () => int16(0))),
  copyData: (bytes: Part): Buffer => message('d', bytes),
  copyDone: (): Buffer => message('c'),
  functionCallResponse: (value: Value): Buffer => message('V', counted(value)),
}

/** One message as it was read. */
export interface Frame {
  readonly type: string
  readonly body: Buffer
}

/** Cuts whole messages off; `rest` is the beginning of the next one. */
export function frames(bytes: Buffer): { frames: Frame[]; rest: Buffer } {
  const found: Frame[] = []
  let at = 0
  while (bytes.length - at >= 5) {
    const end = at + 1 + bytes.readInt32BE(at + 1)
    if (end > bytes.length) break
    found.push({ type: String.fromCharCode(bytes[at] ?? 0), body: bytes.subarray(at + 5, end) })
    at = end
  }
  return { frames: found, rest: bytes.subarray(at) }
}

/** The fields of an ErrorResponse or NoticeResponse by their code: C is the SQLSTATE, M the text. */
export function errorFields(body: Buffer): Record<string, string> {
  const parts = body.toString('utf8').split('\0')
  return Object.fromEntries(
    parts.filter((part) => part !== '').map((part) => [part.slice(0, 1), part.slice(1)]),
  )
}

/** The columns of a DataRow as text. */
export function rowValues(body: Buffer): (string | null)[] {
  const values: (string | null)[] = []
  let at = 2
  for (let index = 0; index < body.readInt16BE(0); index += 1) {
    const length = body.readInt32BE(at)
    at += 4
    values.push(length < 0 ? null : body.toString('utf8', at, at + length))
    at += Math.max(length, 0)
  }
  return values
}
