/** What cases of alerts are made of: the shape of a case, and series with the labels that they really have. */

export interface AlertCase {
  readonly fires: Readonly<Record<string, string>>
  readonly silent: Readonly<Record<string, string>>
  /** What it carries beside its name and severity. */
  readonly labels?: Readonly<Record<string, string>>
  /** When to look, from the first sample; 10m without it. */
  readonly at?: string
  /** Time between samples; 15s without it. */
  readonly every?: string
}

/** A name for each member, its metrics with the labels that they really have. */
export const of = (name: string): string =>
  `{scope="m",name="${name}",instance="${name}",job="patroni"}`
export const at = (instance: string, more = ''): string => `{instance="${instance}",job="x"${more}}`
export const up = (job: string, instance: string): string =>
  `up{job="${job}",instance="${instance}"}`
export const activity = (state: string): string =>
  `pg_stat_activity_max_tx_duration${at('a', `,datname="d",state="${state}"`)}`
export const disk = (what: string, host = 'h'): string =>
  `node_filesystem_${what}${at(host, ',fstype="ext4",mountpoint="/",device="/dev/vda"')}`
export const backup = (what: string, more = ''): string => `pgbackrest_${what}{stanza="m"${more}}`
export const DAY_S = 86_400
