import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { type Program, program, python } from '../support/debian.ts'

function output({ file, args, env }: Program, ...parameters: string[]): string {
  const settings = { env: { ...process.env, ...env }, encoding: 'utf8' } as const
  return execFileSync(file, [...args, ...parameters], settings)
}

test.each([
  ['postgres', '--version', /PostgreSQL\) 15/],
  ['psql', '--version', /15/],
  ['pgbench', '--version', /15/],
  ['patroni', '--version', /patroni [34]\./],
  ['patronictl', 'version', /patronictl version [34]\./],
  ['etcd', '--version', /etcd Version: 3\./],
  ['etcdctl', 'version', /etcdctl version: 3\./],
  ['pgbouncer', '--version', /PgBouncer 1\./],
  ['haproxy', '-v', /version 2\./],
  ['openssl', 'version', /OpenSSL 3/],
] as const)('%s runs', (name, parameter, version) => {
  expect(output(program(name), parameter)).toMatch(version)
})

test('promtool judges metrics', () => {
  const { file, args, env } = program('promtool')
  const metrics = '# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n'
  const settings = { env: { ...process.env, ...env }, input: metrics }
  execFileSync(file, [...args, 'check', 'metrics'], settings)
  expect(() =>
    execFileSync(file, [...args, 'check', 'metrics'], { ...settings, input: 'a{' }),
  ).toThrow()
})

test('Python has psycopg 3 and psycopg2', () => {
  expect(output(python(), '-c', 'import psycopg; print(psycopg.__version__)')).toMatch(/^3\./)
  expect(output(python(), '-c', 'import psycopg2; print(psycopg2.__version__)')).toMatch(/^2\./)
})
