/** The least that cluster.env must say: three nodes, a member of each kind on each of them. */
export const VALUES = {
  CLUSTER: 'main',
  PG_NODES: '1:a,2:b,3:c',
  ETCD_NODES: '1:a,2:b,3:c',
  PGBACKREST_NODE: 'c',
  MONITORING_NODE: 'c',
  NODE_IMAGE: 'node:1',
  PGSTEER_IMAGE: 'pgsteer:1',
}
