/**
 * `npm test`: provides what the suites need, runs them one after the other, says what was not run,
 * and ends with the line `N passed, N failed`. Parameters go to vitest and then only that is run:
 *
 *   npm test                               everything
 *   npm test -- integration                one project
 *   npm test -- unit test/unit/wire        some files of one project
 *   npm run test:long                      what takes minutes and is no part of npm test
 *   npm run test:chaos                     a real cluster in network namespaces, with real faults
 *   npm run test:chaos -- --all            all of its scenarios, and other poolers beside (40 minutes)
 *   npm run test:swarm                     the whole deployment on a Docker Swarm of three nodes
 *   npm run test:swarm:full                with monitoring, backups, upgrades, certificates (40 minutes)
 *   npm run test:swarm:full -- FILE        one of its parts alone: test/swarm/moves.root.test.ts
 *   npm run image                          builds pgsteer's image and tests it (root or a running Docker)
 *
 * Files named *.root.test.ts need root and network namespaces; without them they are counted as not run.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { canHaveEngine, provideLab } from './engine.mjs'
import { saveImages, tagOf, withImages } from './images.mjs'
import { bound, canIsolate, isolated } from './isolation.mjs'
import { provision, TRIXIE } from './provision.mjs'
import { BIN, environment, main, ROOT, run, say, setUp } from './setup.mjs'

const PROJECTS = ['unit', 'simulation', 'protocol', 'deploy', 'integration', 'failover']
/** Of these nothing has to be provided. */
const QUICK = new Set(['unit', 'simulation', 'protocol', 'image', 'swarm'])
const REPORTS = join(ROOT, '.cache/reports')

/** Those of the projects that were asked for; a project's files lie in its folder. */
function rootFiles(projects) {
  const names = readdirSync(join(ROOT, 'test'), { recursive: true })
  const wanted = names.filter((name) =>
    projects.some((project) => name.startsWith(join(project, '/'))),
  )
  return wanted.filter((name) => name.endsWith('.root.test.ts')).map((name) => join('test', name))
}

/** Where a suite that is run in namespaces of its own has an empty directory in memory there. */
const SCRATCHES = { chaos: join(TRIXIE, 'tmp'), swarm: '/var/tmp/pgsteer-scratch' }
/** Files of a lab are on a disk, since engines do not work in memory; followed by our process number. */
const LAB = '/var/tmp/pgsteer-swarm-'
const SWARM_IMAGES = ['pgsteer', 'node', 'etcd']

/** Runs a project with what has to be there around it; returns what it counted. */
async function runAround(project, files, env) {
  if (project === 'image') return runImage(files, env)
  if (project === 'swarm' && canIsolate()) return runSwarm(files, env)
  return runProject(project, files, env)
}

async function runImage(files, env) {
  if (!canHaveEngine()) {
    const why = 'the image: no Docker answers, and starting one needs root'
    return { passed: 0, failed: 0, notRun: [why] }
  }
  return withImages(['pgsteer'], () => {
    const more = { DOCKER_HOST: process.env.DOCKER_HOST, PGSTEER_TEST_IMAGE: tagOf('pgsteer') }
    return runProject('image', files, { ...env, ...more })
  })
}

async function runSwarm(files, env) {
  const left = readdirSync('/var/tmp').map((name) => join('/var/tmp', name))
  const stale = left.filter((path) => {
    const owner = Number.parseInt(path.slice(LAB.length), 10)
    return path.startsWith(LAB) && !existsSync(`/proc/${owner}`)
  })
  const directory = `${LAB}${process.pid}`
  const images = `${directory}.images`
  try {
    for (const path of stale) removeLab(path)
    provideLab()
    const names = env.SWARM_FORM === 'full' ? undefined : SWARM_IMAGES
    await withImages(names, () => saveImages(images, names))
    const more = { PGSTEER_LAB: directory, PGSTEER_LAB_IMAGES: images }
    // The long form has all of the short one.
    const suites = env.SWARM_FORM === 'full' ? ['full', 'moves'] : ['cluster']
    const all = suites.map((suite) => `test/swarm/${suite}.root.test.ts`)
    const parameters = files.some((file) => file.endsWith('.ts')) ? files : [...all, ...files]
    return await runProject('swarm', parameters, { ...env, ...more })
  } finally {
    for (const path of [directory, images, SCRATCHES.swarm]) removeLab(path)
  }
}

/** What a lab that was ended in the middle leaves: files, and control groups with the name of its directory. */
function removeLab(directory) {
  // Engines that were killed take a moment to end.
  rmSync(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 500 })
  const groups = '/sys/fs/cgroup'
  if (!existsSync(groups)) return
  for (const parent of ['.', ...readdirSync(groups)]) {
    const path = join(groups, parent, basename(directory))
    // One that still has processes stays.
    if (existsSync(path)) spawnSync('find', [path, ...'-depth -type d -exec rmdir {} ;'.split(' ')])
  }
}

/** Runs one vitest project; returns what its own report counted. */
async function runProject(project, files, env) {
  const report = join(REPORTS, `${project}.json`)
  rmSync(report, { force: true })
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const isolation = canIsolate() ? [] : ['--exclude', '**/*.root.test.ts']
  const parameters = [
    'run',
    '--project',
    project,
    '--passWithNoTests',
    ...reporters,
    ...isolation,
    ...files,
  ]
  const vitest = join(BIN, 'vitest')
  const scratch = canIsolate() ? SCRATCHES[project] : undefined
  if (scratch === undefined) return count(project, report, await run(vitest, parameters, { env }))
  const [file, ...rest] = bound(isolated(scratch, [vitest, ...parameters]))
  return count(project, report, await run(file, rest, { env, ending: 'SIGKILL' }))
}

function count(project, report, code) {
  let counted
  try {
    counted = JSON.parse(readFileSync(report, 'utf8'))
  } catch {
    return { passed: 0, failed: 1, notRun: [`${project}: vitest ended with ${code} and no report`] }
  }
  const brokenFiles = counted.testResults.filter(
    (file) =>
      file.status === 'failed' && !file.assertionResults.some((one) => one.status === 'failed'),
  ).length
  const failed = counted.numFailedTests + brokenFiles
  const left = counted.testResults.flatMap((file) =>
    file.assertionResults
      .filter((one) => one.status !== 'passed' && one.status !== 'failed')
      .map((one) => `${relative(ROOT, file.name)}: ${one.title} (${one.status})`),
  )
  // An unhandled error outside of any test shows in the exit code alone.
  return {
    passed: counted.numPassedTests,
    failed: failed === 0 && code !== 0 ? 1 : failed,
    notRun: left,
  }
}

await main(async () => {
  const [project, ...given] = process.argv.slice(2)
  const files = given.filter((one) => one !== '--all')
  const projects = project === undefined ? PROJECTS : [project]
  const node = await setUp()
  if (projects.some((name) => !QUICK.has(name))) provision()
  mkdirSync(REPORTS, { recursive: true })
  const isWhole = given.includes('--all')
  const forms = { CHAOS_FORM: isWhole ? 'whole' : 'short', SWARM_FORM: isWhole ? 'full' : 'short' }
  const env = { ...environment(node), ...forms }
  /** @type {string[]} */
  const notRun = []
  let passed = 0
  let failed = 0
  for (const name of projects) {
    say(`\n== ${name}`)
    const one = await runAround(name, files, env)
    passed += one.passed
    failed += one.failed
    notRun.push(...one.notRun)
  }
  if (!canIsolate())
    notRun.push(...rootFiles(projects).map((file) => `${file}: needs root and network namespaces`))
  console.log('')
  for (const what of notRun) console.log(`not run: ${what}`)
  console.log(`${notRun.length} not run`)
  console.log(`${passed} passed, ${failed} failed`)
  return failed === 0 && passed > 0 ? 0 : 1
})
