/**
 * What the control plane reaches outside of the process by: etcd's endpoints, SQL connections and
 * Patroni's REST API. The simulation puts its own in their place.
 */
import type { Clock } from '../base/clock.ts'
import { openDirect } from './direct.ts'
import { Endpoint } from './endpoint.ts'
import type { EtcdAccess } from './etcd-client.ts'
import { Rest, type RestFiles } from './rest.ts'

/** One member of etcd, as the source uses it. */
export type EndpointPort = Pick<Endpoint, keyof Endpoint>

export interface Outside {
  readonly openDirect: typeof openDirect
  endpoint(url: string, access: EtcdAccess, prefix: string, clock: Clock): EndpointPort
  rest(files: RestFiles, clock: Clock, deadlineMs: number): Pick<Rest, 'json'>
}

export const OUTSIDE: Outside = {
  openDirect,
  endpoint: (url, access, prefix, clock) => new Endpoint(url, access, prefix, clock),
  rest: (files, clock, deadlineMs) => new Rest(files, clock, deadlineMs),
}
