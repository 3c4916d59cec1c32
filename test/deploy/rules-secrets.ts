/** Rules about secrets: none has a default, none is in the environment or on a command line. */
import type { Rule } from './rules.ts'
import { services } from './services.ts'
import { strings } from './stack.ts'

/** Words in a name that mean its value is a secret; PGPASS names a file. */
const SECRET = /(?:^|_)(?:PASS|PASSWORD|PASSWD|SECRET|TOKEN|KEY|ACCESSKEY|SECRETKEY|CIPHER)(?:_|$)/
/** Names that say a file or a version, and etcd's token, which is a name. */
const NO_SECRET = /(?:_FILE|_FILES|_EPOCH|_SHA|_PATH|_MODE|_TYPE)$|^ETCD_INITIAL_CLUSTER_TOKEN$/

export const SECRET_RULES: readonly Rule[] = [
  {
    name: 'no-default-secret',
    says: 'No variable with PASS, SECRET, KEY or TOKEN in its name has a default.',
    why: 'A forgotten one must stop the deploy with its name, not deploy a known password.',
    *check({ written }) {
      for (const { path, value } of strings(written))
        for (const [, name = ''] of value.matchAll(/\$\{(\w+):?-/g))
          if (isSecret(name)) yield { where: placeOf(path), what: `${name} has a default` }
    },
  },
  {
    name: 'secrets-as-files',
    says: 'No secret is a value of the environment.',
    why: 'The environment is readable in `docker inspect`, in /proc and in crash reports.',
    *check(stack) {
      for (const { name, environment } of services(stack))
        for (const [key, value] of environment)
          if (isSecret(key) && !/^\/|^(?:true|false)$/i.test(value))
            yield { where: name, what: `${key} is in the environment` }
    },
  },
  {
    name: 'secrets-out-of-urls',
    says: 'No URL or connection string in the environment or on a command line holds a password.',
    why: 'It is shown to everybody who may look at the service.',
    *check(stack) {
      for (const { name, environment, words } of services(stack))
        for (const value of [...environment.values(), ...words])
          if (/\w+:\/\/[^\s/@:]+:[^\s@]+@|\bpassword=\S/i.test(value))
            yield { where: name, what: 'a password in a URL' }
    },
  },
  {
    name: 'verified-tls',
    says: 'What connects to PostgreSQL by a connection string verifies whom it talks to.',
    why: 'Every sslmode below verify-full hands the password to whoever answers to the name.',
    *check(stack) {
      for (const { name, environment } of services(stack))
        for (const value of environment.values())
          if (/\bsslmode=(?!verify-full\b)/.test(value))
            yield { where: name, what: 'sslmode is not verify-full' }
    },
  },
  {
    name: 'client-certificates',
    says: 'What connects to PostgreSQL by a connection string shows a certificate of its own.',
    why: 'pg_hba.conf asks for one besides the password: without it nobody gets in, and nothing is measured.',
    *check(stack) {
      for (const { name, environment } of services(stack))
        for (const value of environment.values())
          if (/\bsslmode=/.test(value) && !/\bsslcert=.*\bsslkey=/.test(value))
            yield { where: name, what: 'no sslcert and sslkey' }
    },
  },
  {
    name: 'login-required',
    says: 'No switch that turns logging in off.',
    why: 'pgAdmin without server mode, Grafana with anonymous access and etcd without authentication let everybody in.',
    *check(stack) {
      for (const { name, environment } of services(stack))
        for (const [key, open] of OPEN)
          if (open.test(environment.get(key) ?? ''))
            yield { where: name, what: `${key} lets everybody in` }
    },
  },
]

const OPEN: readonly (readonly [key: string, open: RegExp])[] = [
  ['PGADMIN_CONFIG_SERVER_MODE', /^false$/i],
  ['GF_AUTH_ANONYMOUS_ENABLED', /^true$/i],
  ['GF_USERS_ALLOW_SIGN_UP', /^true$/i],
  ['ALLOW_NONE_AUTHENTICATION', /^yes$/i],
  ['POSTGRES_HOST_AUTH_METHOD', /^trust$/i],
]

function isSecret(name: string): boolean {
  return SECRET.test(name) && !NO_SECRET.test(name)
}

function placeOf(path: readonly string[]): string {
  const [kind = '', name = ''] = path
  return kind === 'services' ? name : `${kind}.${name}`
}
