/** What a simulated member answers to the watcher's probe. */
import type { Chance } from './chance.ts'
import { type Member, SYSTEM_IDENTIFIER } from './cluster.ts'

export function answerRow(member: Member, chance: Chance): Record<string, string | null> {
  const { isInRecovery, head, replayed } = member
  const written = chance.is(0.3) ? (head.parent ?? head) : head
  const file = member.timeline.toString(16).padStart(8, '0').padEnd(24, '0')
  return {
    in_recovery: isInRecovery ? 't' : 'f',
    system_identifier: SYSTEM_IDENTIFIER,
    wal_file: isInRecovery ? null : file,
    write_lsn: isInRecovery ? null : lsnText(written.lsn),
    insert_lsn: isInRecovery ? null : lsnText(head.lsn),
    replay_lsn: isInRecovery ? lsnText(replayed.lsn) : null,
    receive_lsn: isInRecovery ? lsnText(head.lsn) : null,
    received_tli: isInRecovery ? String(head.timeline) : null,
    receiver_status: isInRecovery ? 'streaming' : null,
    control_tli: isInRecovery ? String(replayed.timeline) : null,
    started: String(member.startedMs),
  }
}

function lsnText(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xff_ff_ff_ffn).toString(16)}`
}
