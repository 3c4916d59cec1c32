/**
 * Completes package-lock.json after `npm install`: packages of other platforms that the registry at
 * hand did not have are left out by npm, and then `npm ci` refuses the file everywhere. They are
 * entered by name and version alone; a machine of such a platform asks its own registry for them.
 *
 *   node scripts/complete-lock.mjs
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './setup.mjs'

const FILE = join(ROOT, 'package-lock.json')
const SYSTEMS = ['android', 'darwin', 'freebsd', 'linux', 'openharmony', 'win32']
const PROCESSORS = ['arm64', 'arm', 'ia32', 'loong64', 'ppc64', 'riscv64', 's390x', 'x64']

/** What the optional dependencies of installed packages name and the lockfile does not hold. */
export function missingEntries(lock) {
  const missing = {}
  for (const [path, entry] of Object.entries(lock.packages))
    for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
      const nested = `${path}/node_modules/${name}`
      const top = `node_modules/${name}`
      if (lock.packages[nested] !== undefined || lock.packages[top] !== undefined) continue
      missing[top] = { version: range.replace(/^[^\d]*/, ''), dev: entry.dev, ...platformOf(name) }
    }
  return missing
}

function platformOf(name) {
  const words = name.split(/[/-]/)
  const system = SYSTEMS.find((one) => words.includes(one))
  const processor = PROCESSORS.find((one) => words.includes(one))
  const libc = words.some((word) => word === 'musl' || word === 'musleabihf') ? 'musl' : undefined
  return {
    optional: true,
    ...(system === undefined ? {} : { os: [system] }),
    ...(processor === undefined ? {} : { cpu: [processor] }),
    ...(libc === undefined ? {} : { libc: [libc] }),
  }
}

if (process.argv[1] === import.meta.filename) {
  const lock = JSON.parse(readFileSync(FILE, 'utf8'))
  const missing = missingEntries(lock)
  const [[root, project], ...rest] = Object.entries(lock.packages)
  const sorted = [...rest, ...Object.entries(missing)].toSorted(([a], [b]) => (a < b ? -1 : 1))
  lock.packages = Object.fromEntries([[root, project], ...sorted])
  writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`)
  console.log(`${Object.keys(missing).length} entries added`)
}
