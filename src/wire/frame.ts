/**
 * Frames: the type bytes of the protocol and the length word behind them.
 *
 *     | type 1 byte | length Int32, counts itself but not the type | body |
 *
 * hot path: numbers in, numbers out, nothing allocated.
 * Source  PostgreSQL manual, "Message Formats"; pqcomm.c.
 */

/** Messages a client sends. */
export const QUERY = 0x51 // Q
export const PARSE = 0x50 // P
export const BIND = 0x42 // B
export const DESCRIBE = 0x44 // D
export const EXECUTE = 0x45 // E
export const CLOSE = 0x43 // C
export const FLUSH = 0x48 // H
export const SYNC = 0x53 // S
export const FUNCTION_CALL = 0x46 // F
export const TERMINATE = 0x58 // X
export const PASSWORD = 0x70 // p

/** Copy messages, the same both ways. */
export const COPY_DATA = 0x64 // d
export const COPY_DONE = 0x63 // c
export const COPY_FAIL = 0x66 // f

/** Messages a server sends. */
export const AUTHENTICATION = 0x52 // R
export const BACKEND_KEY_DATA = 0x4b // K
export const PARAMETER_STATUS = 0x53 // S
export const READY_FOR_QUERY = 0x5a // Z
export const ROW_DESCRIPTION = 0x54 // T
export const DATA_ROW = 0x44 // D
export const COMMAND_COMPLETE = 0x43 // C
export const EMPTY_QUERY = 0x49 // I
export const ERROR_RESPONSE = 0x45 // E
export const NOTICE_RESPONSE = 0x4e // N
export const NOTIFICATION = 0x41 // A
export const PARSE_COMPLETE = 0x31 // 1
export const BIND_COMPLETE = 0x32 // 2
export const CLOSE_COMPLETE = 0x33 // 3
export const NO_DATA = 0x6e // n
export const PARAMETER_DESCRIPTION = 0x74 // t
export const PORTAL_SUSPENDED = 0x73 // s
export const COPY_IN = 0x47 // G
export const NEGOTIATE_VERSION = 0x76 // v

/** Transaction status of ReadyForQuery. */
export const STATUS_IDLE = 0x49 // I
export const STATUS_OPEN = 0x54 // T
export const STATUS_FAILED = 0x45 // E

/** Type byte and length word. */
export const HEADER_BYTES = 5

/**
 * The whole frame's size in bytes, type byte included.
 *
 * Shape   needs the five header bytes at `offset`.
 * Returns a size under HEADER_BYTES for a length word that no message can have.
 */
export function frameBytes(bytes: Buffer, offset: number): number {
  return (
    ((bytes[offset + 1] ?? 0) << 24) +
    ((bytes[offset + 2] ?? 0) << 16) +
    ((bytes[offset + 3] ?? 0) << 8) +
    (bytes[offset + 4] ?? 0) +
    1
  )
}

/** Only a Sync completes these messages of a client. Bind is one too, when its names are here. */
export function needsSync(type: number): boolean {
  switch (type) {
    case PARSE:
    case DESCRIBE:
    case EXECUTE:
    case CLOSE:
      return true
    default:
      return false
  }
}
