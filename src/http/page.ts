/**
 * The status page at /: one self-contained document that asks /api/* once a second. It writes text
 * with textContent only, and its policy allows nothing but its own script, style and origin.
 */
import { createHash } from 'node:crypto'

const STYLE = `
:root { color-scheme: light dark;
  --back: #f5f6f8; --card: #fff; --ink: #1a1f2b; --soft: #667085; --line: #dfe3ea;
  --good: #0f8a54; --bad: #c4342d; --warn: #a66a00; --accent: #2f5fd0; --track: #e6e9ef; }
@media (prefers-color-scheme: dark) { :root {
  --back: #10141b; --card: #181e28; --ink: #e7eaf0; --soft: #97a1b2; --line: #2a3240;
  --good: #3ecf8e; --bad: #ff7a70; --warn: #e9b04a; --accent: #84a9ff; --track: #273040; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 48px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 8px 14px; margin-bottom: 18px; }
h1 { font-size: 22px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 13px; font-weight: 600; color: var(--soft); margin: 28px 0 10px;
  text-transform: uppercase; letter-spacing: 0.06em; }
.soft { color: var(--soft); font-size: 13px; }
.right { margin-left: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 12px; }
.tile, .member, .table { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 14px; }
.tile b { display: block; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.banner { margin: 14px 0 0; padding: 10px 14px; border-radius: 10px; border: 1px solid var(--bad);
  color: var(--bad); }
.banner:empty { display: none; }
.members { display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 12px; }
.member { padding: 14px; border-left-width: 4px; }
.member.primary { border-left-color: var(--accent); }
.member.replica { border-left-color: var(--good); }
.member.replica.out { border-left-color: var(--warn); }
.member.unknown { border-left-color: var(--bad); }
.member header { margin: 0 0 8px; }
.member strong { font-size: 16px; }
.badge { font-size: 12px; padding: 1px 8px; border-radius: 99px; border: 1px solid currentColor; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.accent { color: var(--accent); }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 12px; margin: 0; font-size: 13px; }
dt { color: var(--soft); } dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.table { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line); }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
tbody tr + tr td { border-top: 1px solid var(--line); }
.empty { padding: 14px; color: var(--soft); }
`

const SCRIPT = `
'use strict'
const $ = (id) => document.getElementById(id)
const el = (tag, className, text) => {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text !== undefined) node.textContent = text
  return node
}
const bytes = (n) => {
  if (n === null || n === undefined) return 'unknown'
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let i = 0
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i += 1 }
  return (i === 0 ? Math.round(n) : n.toFixed(1)) + ' ' + units[i]
}
const span = (ms) => {
  if (ms === null || ms === undefined) return 'unknown'
  if (ms < 1000) return Math.round(ms) + ' ms'
  const s = Math.round(ms / 1000)
  if (s < 120) return s + ' s'
  if (s < 7200) return Math.round(s / 60) + ' min'
  return s < 172800 ? Math.round(s / 3600) + ' h' : Math.round(s / 86400) + ' d'
}
const count = (n) => n >= 10000 ? Math.round(n).toLocaleString('en') : String(Math.round(n * 10) / 10)
const put = (id, text, tone) => {
  $(id).textContent = text
  $(id).className = tone || ''
}
const pair = (list, name, value) => list.append(el('dt', '', name), el('dd', '', value))

function member(m) {
  const out = m.role === 'replica' && !m.isEligible
  const card = el('article', 'member ' + m.role + (out ? ' out' : ''))
  const head = el('header')
  const tone = m.role === 'primary' ? 'accent' : m.role === 'unknown' ? 'bad' : out ? 'warn' : 'good'
  head.append(el('strong', '', m.name), el('span', 'badge ' + tone, m.role))
  if (m.zone) head.append(el('span', 'soft', m.zone))
  const list = el('dl')
  pair(list, 'Address', m.host + ':' + m.port)
  pair(list, 'State', m.state + (m.timeline === null ? '' : ', timeline ' + m.timeline))
  if (m.role === 'replica') {
    pair(list, 'Lag', bytes(m.lagBytes) + ', ' + span(m.lagMs))
    pair(list, 'Serves reads', m.isEligible ? 'yes' : 'no: ' + (m.ineligibleReason || 'unknown'))
  }
  pair(list, 'Log position', m.writeLsn || m.replayLsn || 'unknown')
  pair(list, 'Last seen', m.sampleAgeMs === null ? 'never' : span(m.sampleAgeMs) + ' ago')
  const s = m.servers
  pair(list, 'Servers', s ? s.active + ' active, ' + (s.idle + s.used) + ' idle' : 'none')
  card.append(head, list)
  return card
}

let last = null
function rates(pools) {
  const now = { wallMs: pools.wallMs, queries: 0, transactions: 0 }
  for (const { stats } of pools.databases) {
    now.queries += stats.queries
    now.transactions += stats.transactions
  }
  if (last !== null && now.wallMs > last.wallMs) {
    const rate = (field) => count(Math.max(0, now[field] - last[field]) * 1000 / (now.wallMs - last.wallMs))
    put('rates', rate('queries') + ', ' + rate('transactions'))
  }
  last = now
}

function poolRow(p) {
  const row = el('tr')
  const cell = (text, tone) => row.append(el('td', tone || '', String(text)))
  cell(p.database)
  cell(p.user)
  cell(p.poolMode)
  cell(p.clientsActive)
  cell(p.clientsWaiting, p.clientsWaiting > 0 ? 'warn' : '')
  cell(p.held, p.held > 0 ? 'bad' : '')
  cell(p.oldestWaitMs > 0 ? span(p.oldestWaitMs) : '')
  cell(p.serversActive)
  cell(p.serversIdle + p.serversUsed)
  cell(p.serversLogin)
  return row
}

function show(cluster, pools, health) {
  put('version', 'pgsteer ' + cluster.version)
  put('writes', health.write.can ? 'yes' : 'no', health.write.can ? 'good' : 'bad')
  put('reads', health.read.can ? 'yes' : 'no', health.read.can ? 'good' : 'bad')
  put('primary', cluster.isRouted ? cluster.primary || 'none' : 'not routed',
    cluster.isRouted && !cluster.primary ? 'bad' : '')
  put('term', cluster.term + (cluster.timeline === null ? '' : ' / ' + cluster.timeline))
  let clients = pools.loginClients, waiting = 0, servers = 0
  for (const p of pools.pools) {
    clients += p.clientsActive + p.clientsWaiting
    waiting += p.clientsWaiting
    servers += p.serversActive + p.serversIdle + p.serversUsed + p.serversTested + p.serversLogin
  }
  put('clients', clients + ' / ' + pools.clientsMax)
  put('waiting', String(waiting), waiting > 0 ? 'warn' : '')
  put('servers', String(servers))
  rates(pools)
  const reasons = [health.write, health.read].filter((a) => !a.can).map((a) => a.reason)
  if (cluster.source.error) reasons.push(cluster.source.kind + ': ' + cluster.source.error)
  $('banner').textContent = [...new Set(reasons)].join('; ')
  $('source').textContent = cluster.source.kind
    ? 'from ' + cluster.source.kind + ' (' + cluster.source.state + ')' : ''
  $('members').replaceChildren(...cluster.members.map(member))
  $('cluster').hidden = !cluster.isRouted
  const rows = pools.pools.filter((p) => p.database !== 'pgbouncer' || p.clientsActive > 0)
  $('pools').replaceChildren(...rows.map(poolRow))
  $('nopools').hidden = rows.length > 0
  $('updated').textContent = 'updated ' + new Date(cluster.wallMs).toLocaleTimeString() +
    ', up ' + span(cluster.wallMs - cluster.startedWallMs) +
    ', ' + cluster.workers.length + ' of ' + cluster.workersWanted + ' workers'
}

async function turn() {
  try {
    const get = (path) => fetch(path, { signal: AbortSignal.timeout(5000) }).then((r) => r.json())
    const [cluster, pools, health] =
      await Promise.all([get('/api/cluster'), get('/api/pools'), get('/readyz')])
    if (cluster.error) throw new Error(cluster.error)
    show(cluster, pools, health)
  } catch (error) {
    $('banner').textContent = 'No answer from pgsteer: ' + error.message
  }
  setTimeout(turn, 1000)
}
turn()
`

const tile = (id: string, title: string): string =>
  `<div class="tile"><span class="soft">${title}</span><b><span id="${id}">&ndash;</span></b></div>`

export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pgsteer</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<header><h1 id="version">pgsteer</h1><span class="soft right" id="updated">waiting for the first answer</span></header>
<div class="tiles">
${tile('writes', 'Writes')}${tile('reads', 'Reads')}${tile('primary', 'Primary')}${tile('term', 'Term / timeline')}
${tile('clients', 'Clients')}${tile('waiting', 'Waiting')}${tile('servers', 'Servers')}${tile('rates', 'Queries, transactions / s')}
</div>
<p class="banner" id="banner" role="status"></p>
<section id="cluster" hidden><h2>Members <span id="source"></span></h2><div class="members" id="members"></div></section>
<h2>Pools</h2>
<div class="table"><table>
<thead><tr><th>Database</th><th>User</th><th>Mode</th><th>Clients</th><th>Waiting</th><th>Held</th><th>Oldest wait</th><th>Servers active</th><th>Idle</th><th>Logging in</th></tr></thead>
<tbody id="pools"></tbody></table><p class="empty" id="nopools">No pool yet: a client has to connect first.</p></div>
<p class="soft"><a href="/metrics">metrics</a> &middot; <a href="/api/cluster">cluster</a> &middot; <a href="/api/pools">pools</a> &middot; <a href="/readyz">readiness</a></p>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`

function digest(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

/** Content-Security-Policy of the page: its own script and style by digest, its own origin. */
export const PAGE_POLICY = [
  "default-src 'none'",
  `script-src ${digest(SCRIPT)}`,
  `style-src ${digest(STYLE)}`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')
