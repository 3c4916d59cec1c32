/**
 * The control process as the console and the API see it, for tests: state changes at once, every
 * call is noted, and what a test wants to wait or fail is given by hand.
 */
import type { Actions } from '../../src/admin/commands.ts'
import type { AdminState, Snapshot } from '../../src/admin/facts.ts'
import { snapshotOf } from './facts.ts'

export interface FakeActions extends Actions {
  /** `pause app`, `set max_client_conn=5`, ... in order. */
  readonly calls: string[]
}

export function fakeActions(
  some: Partial<Actions> & { readonly snapshotOf?: () => Snapshot } = {},
): FakeActions {
  const calls: string[] = []
  const shown = some.snapshotOf?.() ?? snapshotOf()
  let state: AdminState = shown.state
  const note = (...words: readonly (string | number | null)[]): Promise<void> => {
    calls.push(words.filter((word) => word !== null).join(' '))
    return Promise.resolve()
  }
  return {
    calls,
    snapshot: () => Promise.resolve({ ...(some.snapshotOf?.() ?? shown), state }),
    config: () => shown.config,
    state: () => state,
    reload: async () => {
      await note('reload')
      return ['listen_port needs a restart']
    },
    upgrade: () => Promise.resolve([]),
    restartWorkers: () => note('restart_workers'),
    pause: (database) => {
      const { pausedDatabases } = state
      state =
        database === null
          ? { ...state, isPaused: true }
          : { ...state, pausedDatabases: [...pausedDatabases, database] }
      return note('pause', database)
    },
    resume: (database) => {
      state = { ...state, isPaused: false, pausedDatabases: [] }
      return note('resume', database)
    },
    disable: (database) => note('disable', database),
    enable: (database) => note('enable', database),
    reconnect: (database) => note('reconnect', database),
    kill: (database) => note('kill', database),
    killClient: async (id) => {
      await note('kill_client', id)
      return id === 7
    },
    drain: async (member) => {
      await note('drain', member)
      return { holds: true, writes: 0, waitedMs: 1 }
    },
    waitClose: (database) => note('wait_close', database),
    shutdown: (mode) => note('shutdown', mode),
    set: async (key, value) => {
      if (key !== 'max_client_conn') throw new Error(`${key} is not a setting`)
      await note('set', `${key}=${value}`)
    },
    explainRoute: async (sql, database) => {
      await note('explain', database, sql)
      return [{ route: 'replica', reason: 'read', members: ['pg2'], detail: 'a select' }]
    },
    ...some,
  }
}
