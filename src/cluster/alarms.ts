/**
 * Members that are refused for what they are, not for how they do: somebody has to look at them. A
 * pure judgement of a Topology; a member that is down, late or on its way to the current timeline
 * is none of these.
 */
import type { Log } from '../base/log.ts'
import type { Topology } from './topology.ts'

const SENTENCES = {
  system_identifier: 'it belongs to another cluster',
  not_in_recovery: 'it takes writes beside the verified primary',
  timeline: 'it is on a later timeline than the verified primary',
} as const satisfies Record<string, string>

type Alarm = keyof typeof SENTENCES

/** By member. Without a verified primary only foreign members can be told. */
export function alarmsOf(topology: Topology): ReadonlyMap<string, Alarm> {
  const alarms = new Map<string, Alarm>()
  for (const { name, ineligibleReason: reason, sample } of topology.members) {
    if (reason === 'system_identifier') alarms.set(name, reason)
    if (topology.primary === null || topology.timeline === null) continue
    if (reason === 'not_in_recovery') alarms.set(name, reason)
    if (reason === 'timeline' && (sample?.timeline ?? 0) > topology.timeline)
      alarms.set(name, reason)
  }
  return alarms
}

/** Logs what begins and what ends since `before`; returns what holds now. */
export function tellAlarms(
  before: ReadonlyMap<string, string>,
  topology: Topology,
  log: Log,
): ReadonlyMap<string, string> {
  const alarms = alarmsOf(topology)
  for (const [member, reason] of alarms)
    if (before.get(member) !== reason)
      log.error({ member, reason }, `a member is refused: ${SENTENCES[reason]}`)
  for (const member of before.keys())
    if (!alarms.has(member)) log.info({ member }, 'the member is refused no longer')
  return alarms
}
