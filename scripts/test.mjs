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
 *
 * Files named *.root.test.ts need root and network namespaces; without them they are counted as not run.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { isRoot, provision, TRIXIE } from './provision.mjs'
import { BIN, environment, main, ROOT, run, say, setUp } from './setup.mjs'

const PROJECTS = ['unit', 'simulation', 'protocol', 'deploy', 'integration', 'failover']
/** Of these nothing has to be provided. */
const QUICK = new Set(['unit', 'simulation', 'protocol', 'image'])
const REPORTS = join(ROOT, '.cache/reports')

/** Root alone is not enough: a container may not let it make namespaces. */
function canIsolate() {
  return isRoot && spawnSync('unshare', ['--net', 'true']).status === 0
}

/** Those of the projects that were asked for; a project's files lie in its folder. */
function rootFiles(projects) {
  const names = readdirSync(join(ROOT, 'test'), { recursive: true })
  const wanted = names.filter((name) =>
    projects.some((project) => name.startsWith(join(project, '/'))),
  )
  return wanted.filter((name) => name.endsWith('.root.test.ts')).map((name) => join('test', name))
}

/**
 * The chaos suite makes networks. In namespaces of its own its bridges, processes, shared memory and
 * files of servers end with it, however it ends; what starts it stays first process and reaps.
 */
const ISOLATION = [
  '--net',
  '--mount',
  '--pid',
  '--ipc',
  '--fork',
  '--kill-child',
  '--mount-proc',
  'bash',
  '-c',
  'for at in /run/netns /dev/shm "$0/tmp"; do mkdir -p "$at"; mount -t tmpfs -o mode=1777 none "$at"; done; ip link set lo up; "$@" & wait $!',
]

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
  const isApart = project === 'chaos' && canIsolate()
  const vitest = join(BIN, 'vitest')
  const code = isApart
    ? await run('unshare', [...ISOLATION, TRIXIE, vitest, ...parameters], { env })
    : await run(vitest, parameters, { env })
  return count(project, report, code)
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
  const env = { ...environment(node), CHAOS_FORM: given.includes('--all') ? 'whole' : 'short' }
  /** @type {string[]} */
  const notRun = []
  let passed = 0
  let failed = 0
  for (const name of projects) {
    say(`\n== ${name}`)
    const one = await runProject(name, files, env)
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
