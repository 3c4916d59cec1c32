/**
 * deploy/patroni/base.yml as a member gets it, judged by a real Patroni: the folder that the image's
 * entry makes, with generated passwords and certificates and a real etcd behind TLS on loopback.
 */
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Authority } from './certificates.ts'
import { type Program, program, python } from './debian.ts'
import { execute, type Ran } from './exec.ts'
import { type Installation, PatroniCluster } from './patroni.ts'
import { freePort } from './steer.ts'
import { waitFor } from './wait.ts'

const BASE = resolve(import.meta.dirname, '../../deploy/patroni/base.yml')
/** Patroni refuses loopback's first address as one that others connect to. */
const HOST = '127.0.0.21'

/** The roles' names and passwords, as the secret 90-auth.yml has them. */
export const ROLES = {
  superuser: { username: 'postgres', password: 'of-postgres' },
  replication: { username: 'replicator', password: 'of-replicator' },
  rewind: { username: 'rewind', password: 'of-rewind' },
}

export class MemberConfiguration {
  readonly #cluster: PatroniCluster
  readonly #installation: Installation
  readonly #environment: Readonly<Record<string, string>>

  private constructor(
    cluster: PatroniCluster,
    installation: Installation,
    environment: Readonly<Record<string, string>>,
  ) {
    this.#cluster = cluster
    this.#installation = installation
    this.#environment = environment
  }

  static async prepare(installation: Installation): Promise<MemberConfiguration> {
    const cluster = await PatroniCluster.prepare({
      members: 0,
      etcds: 1,
      installation,
      etcdFlags: (folder) => ({
        'cert-file': join(folder, 'secrets/node.crt'),
        'key-file': join(folder, 'secrets/node.key'),
        'trusted-ca-file': join(folder, 'secrets/ca.crt'),
        'client-cert-auth': 'true',
      }),
    })
    const secrets = join(cluster.folder, 'secrets')
    const authority = new Authority(secrets)
    const node = authority.issue({ commonName: 'patroni1', names: 'DNS:localhost,IP:127.0.0.1' })
    cpSync(node.certFile, join(secrets, 'node.crt'))
    cpSync(node.keyFile, join(secrets, 'node.key'))
    chmodSync(join(secrets, 'node.key'), 0o644)
    mkdirSync(join(cluster.folder, 'conf.d'))
    cluster.startEtcd('etcd1')
    const inner = cluster.folder.slice(installation.root?.length ?? 0)
    const [sql, rest] = [await freePort(), await freePort()]
    return new MemberConfiguration(cluster, installation, {
      PATRONI_NAME: 'patroni1',
      PATRONI_SCOPE: 'main',
      PATRONI_ETCD3_HOSTS: cluster.etcds.map(({ url }) => url.replace(/^\w+:\/\//, '')).join(','),
      PATRONI_POSTGRESQL_LISTEN: `${HOST}:${sql}`,
      PATRONI_POSTGRESQL_CONNECT_ADDRESS: `${HOST}:${sql}`,
      PATRONI_RESTAPI_LISTEN: `${HOST}:${rest}`,
      PATRONI_RESTAPI_CONNECT_ADDRESS: `${HOST}:${rest}`,
      PATRONI_POSTGRESQL_DATA_DIR: join(inner, 'pgdata'),
      PATRONI_POSTGRESQL_BIN_DIR: installation.pgBinDir,
    })
  }

  /**
   * Writes the folder as `member` does: the subnets put in, the secret behind. `change` is applied to
   * the text of base.yml, `more` is another file. Returns the folder as Patroni sees it.
   */
  write(change: (base: string) => string, more: Readonly<Record<string, unknown>> = {}): string {
    const folder = join(this.#cluster.folder, 'conf.d')
    const inner = this.#cluster.folder.slice(this.#installation.root?.length ?? 0)
    const base = change(readFileSync(BASE, 'utf8'))
      .replaceAll(/\$\{D(?:CS|B)_SUBNET\}/g, '10.77.1.0/24')
      .replaceAll('/run/secrets/', join(inner, 'secrets/'))
    writeFileSync(join(folder, '10-base.yml'), base)
    writeFileSync(join(folder, '20-more.yml'), JSON.stringify(more))
    const auth = { postgresql: { authentication: ROLES } }
    writeFileSync(join(folder, '90-auth.yml'), JSON.stringify(auth))
    return join(inner, 'conf.d')
  }

  /** What `patroni --validate-config` complains about, line by line, once etcd answers. */
  async complaints(folder: string): Promise<string[]> {
    const lines = await waitFor(
      'etcd to answer Patroni',
      async () => {
        const { output, errors } = await this.#run('patroni', ['--validate-config', folder])
        return /^etcd3\.hosts?\b.*(?:not|refused|reach)/m.test(output + errors)
          ? undefined
          : `${output}${errors}`
      },
      { withinMs: 25_000, everyMs: 500 },
    )
    return lines.split('\n').filter((line) => line.trim() !== '')
  }

  /** By whose names members log in to each other, after the files and the environment were merged. */
  async roles(folder: string): Promise<Record<string, object>> {
    const script =
      'import json, sys; from patroni.config import Config; ' +
      'print(json.dumps(Config(sys.argv[1])["postgresql"]["authentication"]))'
    const { output, errors } = await this.#run('python3', ['-c', script, folder])
    if (output === '') throw new Error(errors)
    return JSON.parse(output) as Record<string, object>
  }

  stop(): Promise<void> {
    return this.#cluster.stop()
  }

  #run(what: string, words: readonly string[]): Promise<Ran> {
    return execute(this.#program(what), words, { env: this.#environment })
  }

  #program(what: string): Program {
    const { root } = this.#installation
    if (root === null) return what === 'python3' ? python() : program(what)
    const script =
      'mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@"'
    const args = ['--mount', 'bash', '-c', script, 'enter', root, `/usr/bin/${what}`]
    return { file: 'unshare', args, env: {} }
  }
}
