/**
 * `rotate-certs`: new certificates for every service, in a new epoch, brought in without taking two members at
 * once. A new authority takes three epochs: all trust both, then all show certificates of the new one, then
 * all forget the old one. Behind the first one the operator gives clients what they need to trust both, and
 * calls again; certificates can be made anew meanwhile. Before the first change of a step, ca/step says which
 * it is and what its epoch will be; all that a step does may be done again, so that it can be continued
 * wherever it stopped.
 */
import { makeAuthority } from './certificates.ts'
import { type Context, settingsOf } from './context.ts'
import { OperatorError } from './operator.ts'
import { changeSettings } from './steps.ts'
import { up } from './up.ts'

type Step = 'trust' | 'sign' | 'forget'

/** A step that was begun. */
interface Begun {
  readonly step: Step
  readonly epoch: number
}

export async function rotateCertificates(
  context: Context,
  { hasNewAuthority, seconds }: { hasNewAuthority: boolean; seconds: number },
): Promise<void> {
  if (!hasNewAuthority) {
    beginEpoch(context, settingsOf(context).certEpoch + 1, trustedBundle(context))
    await up(context, { stacks: [], seconds })
    return
  }
  const pending = stepsLeft(context)
  if (pending.length > 0) context.output.step('going on with the new authority that was begun')
  const isTrusted = pending.length > 0 && pending[0] !== 'trust'
  for (const step of isTrusted ? pending : (['trust'] as const)) {
    await begin(context, step)
    await up(context, { stacks: [], seconds })
    finish(context, step)
  }
  context.output.step(
    isTrusted
      ? 'everybody who checks certificates needs nothing but the new ca/ca.crt now'
      : 'all trust both authorities: give ca/both.crt to everybody who checks certificates, then call `rotate-certs --new-ca` again',
  )
}

const STEPS: readonly Step[] = ['trust', 'sign', 'forget']

/** None if no new authority was begun. After 'trust' there is next.crt, after 'sign' there is old.crt. */
function stepsLeft({ folder }: Context): readonly Step[] {
  const begun = begunIn(folder.read('ca', 'step') ?? '')
  if (begun !== undefined) return STEPS.slice(STEPS.indexOf(begun.step))
  if (folder.read('ca', 'next.crt') !== undefined) return STEPS.slice(1)
  return folder.read('ca', 'old.crt') === undefined ? [] : STEPS.slice(2)
}

function begunIn(text: string): Begun | undefined {
  const [name, epoch] = text.trim().split(' ')
  const step = STEPS.find((one) => one === name)
  return step === undefined ? undefined : { step, epoch: Number(epoch) }
}

function authority({ folder }: Context): string {
  return folder.read('ca', 'ca.crt') ?? ''
}

/** What services trust while no step is under way: both authorities while clients are waited for. */
function trustedBundle(context: Context): string {
  const { folder } = context
  if (folder.read('ca', 'step') !== undefined || folder.read('ca', 'old.crt') !== undefined)
    throw new OperatorError(
      'a change of the authority was interrupted',
      'Go on with `rotate-certs --new-ca`.',
    )
  return folder.read('ca', 'both.crt') ?? authority(context)
}

/** CERT_EPOCH is changed last, so that it tells whether all of this was done before. */
async function begin(context: Context, step: Step): Promise<void> {
  const { folder, output } = context
  const { certEpoch } = settingsOf(context)
  const begun = begunIn(folder.read('ca', 'step') ?? '')
  const epoch = begun?.step === step ? begun.epoch : certEpoch + 1
  output.step(`new authority: ${step}`)
  if (certEpoch >= epoch) return
  folder.write(`${step} ${epoch}`, 'ca', 'step')
  if (step === 'trust') await makeNext(context)
  if (step === 'sign') installNext(context)
  const other = { trust: 'next.crt', sign: 'old.crt', forget: undefined }[step]
  const bundle = authority(context) + (other === undefined ? '' : (folder.read('ca', other) ?? ''))
  if (step === 'trust') folder.write(bundle, 'ca', 'both.crt')
  beginEpoch(context, epoch, bundle)
}

/** The certificate last: it says that the key is there. */
async function makeNext(context: Context): Promise<void> {
  const { folder, clock } = context
  if (folder.read('ca', 'next.crt') !== undefined) return
  const made = await makeAuthority(settingsOf(context).cluster, clock.wallMs())
  folder.write(made.key, 'ca', 'next.key')
  folder.write(made.certificate, 'ca', 'next.crt')
}

/** The old one is kept before anything else, and only once: at a second time ca.crt may be the new one. */
function installNext(context: Context): void {
  const { folder } = context
  const [key, certificate] = [folder.read('ca', 'next.key'), folder.read('ca', 'next.crt')]
  if (key === undefined || certificate === undefined)
    throw new OperatorError(
      `next.key or next.crt is missing in ${folder.file('ca')}`,
      'Bring it back from your copy of the folder: the services trust that authority already.',
    )
  if (folder.read('ca', 'old.crt') === undefined) folder.write(authority(context), 'ca', 'old.crt')
  folder.write(key, 'ca', 'ca.key')
  folder.write(certificate, 'ca', 'ca.crt')
}

/** What the next step or another rotation goes by is removed last. */
function finish({ folder }: Context, step: Step): void {
  if (step === 'sign') for (const name of ['next.key', 'next.crt']) folder.remove('ca', name)
  if (step === 'forget') for (const name of ['both.crt', 'old.crt']) folder.remove('ca', name)
  folder.remove('ca', 'step')
}

function beginEpoch(context: Context, epoch: number, bundle: string): void {
  context.folder.write(bundle, 'certificates', String(epoch), 'ca.crt')
  changeSettings(context, { CERT_EPOCH: String(epoch) })
}
