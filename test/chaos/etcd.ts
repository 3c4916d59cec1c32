/** etcd as its JSON gateway tells it: who leads, and what else a scenario asks of it. */
import { waitFor } from '../support/wait.ts'
import type { Stage } from './stage.ts'

interface EtcdStatus {
  readonly header: { readonly member_id: string }
  readonly leader?: string
}

async function etcdStatus(url: string): Promise<EtcdStatus> {
  return (await etcdAsk(url, 'maintenance/status', {})) as EtcdStatus
}

export async function etcdAsk(url: string, path: string, body: unknown): Promise<unknown> {
  const response = await fetch(`${url}/v3/${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(5000),
  })
  return response.json()
}

/** The etcd member that leads, by its own word. */
export async function etcdLeader({ cluster }: Stage): Promise<string> {
  for (const { name, url } of cluster.etcds) {
    const { header, leader } = await etcdStatus(url)
    if (header.member_id === leader) return name
  }
  throw new Error('no etcd member leads')
}

/** Makes that etcd member the leader. */
export async function leadEtcd(stage: Stage, name: string): Promise<void> {
  const { cluster } = stage
  const target = cluster.etcds.find((etcd) => etcd.name === name)
  const leader = await etcdLeader(stage)
  const source = cluster.etcds.find((etcd) => etcd.name === leader)
  if (target === undefined || source === undefined) throw new Error(`no ${name}`)
  if (source === target) return
  const { header } = await etcdStatus(target.url)
  await etcdAsk(source.url, 'maintenance/transfer-leadership', { targetID: header.member_id })
  await waitFor(`${name} leads etcd`, async () => (await etcdLeader(stage)) === name)
}
