/**
 * `rotate-certs`: new certificates for every service, in a new epoch, brought in without taking two members at
 * once. A new authority takes three epochs: all trust both, then all show certificates of the new one, then
 * all forget the old one. Which step is next is read off the files of the folder, so that it can be continued.
 */
import { makeAuthority } from './certificates.ts'
import { type Context, settingsOf } from './context.ts'
import { changeSettings } from './steps.ts'
import { up } from './up.ts'

type Step = 'trust' | 'sign' | 'forget'

export async function rotateCertificates(
  context: Context,
  { hasNewAuthority, seconds }: { hasNewAuthority: boolean; seconds: number },
): Promise<void> {
  const pending = stepsLeft(context)
  if (!hasNewAuthority && pending.length === 0) {
    beginEpoch(context, authority(context))
    await up(context, { stacks: [], seconds })
    return
  }
  if (pending.length > 0 && pending.length < STEPS.length)
    context.output.step('going on with the new authority that was begun')
  for (const step of pending.length > 0 ? pending : STEPS) {
    await begin(context, step)
    await up(context, { stacks: [], seconds })
    finish(context, step)
  }
  context.output.step('everybody who checks certificates needs the new ca/ca.crt now')
}

const STEPS: readonly Step[] = ['trust', 'sign', 'forget']

/** After 'trust' there is next.crt, after 'sign' there is old.crt; while a step is under way its name is in ca/step. */
function stepsLeft({ folder }: Context): readonly Step[] {
  const begun = STEPS.findIndex((step) => step === folder.read('ca', 'step'))
  if (begun >= 0) return STEPS.slice(begun)
  if (folder.read('ca', 'next.crt') !== undefined) return STEPS.slice(1)
  return folder.read('ca', 'old.crt') === undefined ? [] : STEPS.slice(2)
}

function authority({ folder }: Context): string {
  return folder.read('ca', 'ca.crt') ?? ''
}

/** Does nothing for a step that was begun before: its epoch is there already. */
async function begin(context: Context, step: Step): Promise<void> {
  const { folder, clock, output } = context
  if (folder.read('ca', 'step') === step) return
  output.step(`new authority: ${step}`)
  if (step === 'trust') {
    const made = await makeAuthority(settingsOf(context).cluster, clock.wallMs())
    folder.write(made.key, 'ca', 'next.key')
    folder.write(made.certificate, 'ca', 'next.crt')
  }
  if (step === 'sign') {
    folder.write(authority(context), 'ca', 'old.crt')
    folder.write(folder.read('ca', 'next.key') ?? '', 'ca', 'ca.key')
    folder.write(folder.read('ca', 'next.crt') ?? '', 'ca', 'ca.crt')
  }
  const other = { trust: 'next.crt', sign: 'old.crt', forget: undefined }[step]
  folder.write(step, 'ca', 'step')
  beginEpoch(
    context,
    authority(context) + (other === undefined ? '' : (folder.read('ca', other) ?? '')),
  )
}

function finish({ folder }: Context, step: Step): void {
  if (step === 'sign') for (const name of ['next.key', 'next.crt']) folder.remove('ca', name)
  if (step === 'forget') folder.remove('ca', 'old.crt')
  folder.remove('ca', 'step')
}

function beginEpoch(context: Context, bundle: string): void {
  const epoch = settingsOf(context).certEpoch + 1
  context.folder.write(bundle, 'certificates', String(epoch), 'ca.crt')
  changeSettings(context, { CERT_EPOCH: String(epoch) })
}
