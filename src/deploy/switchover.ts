/**
 * `switchover`: another member becomes primary, on purpose and without losing anything. pgsteer holds writes
 * meanwhile, since Patroni's before_stop tells it to.
 */
import { call } from './api.ts'
import { type Context, settingsOf } from './context.ts'
import { type Facts, leaderOf, type Member, readFacts } from './facts.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'

/** To `candidate`, or to the best replica. Answers the new primary; nothing happens if it is that already. */
export async function switchover(context: Context, candidate: string | undefined): Promise<void> {
  const settings = settingsOf(context)
  const facts = await readFacts(context, settings)
  await switchFrom(context, settings, { facts, candidate })
}

export async function switchFrom(
  context: Context,
  settings: Settings,
  { facts, candidate }: { facts: Facts; candidate: string | undefined },
): Promise<void> {
  const leader = leaderOf(facts)
  if (leader === undefined)
    throw new OperatorError(
      'there is no primary to switch from',
      'See `status`: Patroni elects one as soon as etcd and a member are well.',
    )
  if (candidate === leader.name) {
    context.output.step(`${candidate} is the primary already`)
    return
  }
  const next = chosen(facts, leader, candidate)
  context.output.step(`switching over from ${leader.name} to ${next.name}`)
  const { status, body } = await call(context, settings, {
    method: 'POST',
    url: `https://${leader.name}:8008/switchover`,
    body: { leader: leader.name, candidate: next.name },
    isReadOnly: false,
  })
  if (status >= 300)
    throw new OperatorError(
      `Patroni refused: ${body.trim()} (${status})`,
      'See `status` for the reason it names, and try again.',
    )
  context.output.step(body.trim() === '' ? `${next.name} becomes the primary` : body.trim())
}

/** A synchronous replica is sure to have everything that was acknowledged. */
function chosen({ members }: Facts, leader: Member, candidate: string | undefined): Member {
  const replicas = members.filter(
    ({ name, state }) => name !== leader.name && state === 'streaming',
  )
  const synchronous = replicas.filter(({ role }) => /sync|quorum/.test(role))
  const able = synchronous.length > 0 ? synchronous : replicas
  const names = able.map(({ name }) => name).join(', ')
  if (candidate !== undefined && !members.some(({ name }) => name === candidate))
    throw new OperatorError(
      `there is no member ${candidate}`,
      `There are ${members.map(({ name }) => name).join(', ')}.`,
    )
  const found =
    candidate === undefined ? able.toSorted(byLag)[0] : able.find(({ name }) => name === candidate)
  if (found !== undefined) return found
  throw new OperatorError(
    candidate === undefined ? 'no replica can take over' : `${candidate} cannot take over now`,
    able.length > 0
      ? `A switchover that loses nothing goes to a synchronous replica: ${names}.`
      : 'See `status`: a replica has to stream first.',
  )
}

function byLag(a: Member, b: Member): number {
  return (a.lagBytes ?? Number.POSITIVE_INFINITY) - (b.lagBytes ?? Number.POSITIVE_INFINITY)
}
