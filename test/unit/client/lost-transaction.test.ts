/**
 * The transaction of a client whose server was lost: refused until its end, which is answered without a
 * server, in both protocols.
 */
import { describe, expect, test } from 'vitest'
import { backend, frames, frontend } from '../../support/bytes.ts'
import { BEGUN, flight, HINT, lose, says, textOf, told, WAYS } from '../../support/loss.ts'

describe.each(WAYS)('a server lost by %s', (way) => {
  test.each(['simple', 'extended'] as const)(
    'ROLLBACK is answered as such, %s',
    async (protocol) => {
      const { world, client, server } = await flight('primary', protocol, [...BEGUN, 'ROLLBACK'])
      await lose(world, server, way)
      expect(told(client)).toBe(protocol === 'simple' ? 'ROLLBACK ZI' : '1 2 n ROLLBACK ZI')
    },
  )

  test.each([
    ['ROLLBACK', '1 2 n ROLLBACK ZI'],
    ['INSERT INTO t VALUES (1)', '1 40001 ZE'],
  ])('%s is told of its Parse that the server need not have had', async (sql, answer) => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    server.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery('T')]))
    client.sends(frontend.parse('first', HINT + sql), frontend.sync())
    server.onBytes(Buffer.concat([backend.parseComplete(), backend.readyForQuery('T')]))
    client.take()
    world.bytesTo(server)
    const run = [frontend.bind({ statement: 'same' }), frontend.describe('P'), frontend.execute()]
    client.sends(frontend.parse('same', HINT + sql), ...run, frontend.sync())
    expect([world.written(server), client.types()]).toEqual(['BDES', ''])
    await lose(world, server, way)
    expect(told(client)).toBe(answer)
  })

  test('an idle transaction is lost, its COMMIT is no success, and the next one begins', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    server.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery('T')]))
    client.take()
    await lose(world, server, way)
    expect(told(client)).toBe('')
    client.sends(frontend.query('COMMIT'))
    expect(told(client)).toBe('40001 ZI')
    client.sends(frontend.query('INSERT INTO t VALUES (1)'))
    await world.settle()
    client.server.onBytes(
      Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]),
    )
    expect(told(client)).toBe('INSERT 0 1 ZI')
  })

  test('a lost transaction is refused until its end', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    await lose(world, server, way)
    expect(told(client)).toBe('40001 ZE')
    const texts = ['SELECT 1', 'SAVEPOINT s', 'ROLLBACK TO s', 'RELEASE s', 'SELECT 1', 'COMMIT']
    client.sends(...texts.map((sql) => frontend.query(sql)))
    expect(told(client)).toBe('25P02 ZE 25P02 ZE 40001 ZE 40001 ZE 25P02 ZE ROLLBACK ZI')
  })

  test.each(['ROLLBACK; BEGIN', ';/* a */ COMMIT /* ; */; BEGIN'])(
    'a lost transaction ends with the first statement of %j, and the rest runs',
    async (sql) => {
      const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
      await lose(world, server, way)
      client.take()
      client.sends(frontend.query(sql), frontend.query(`${HINT}INSERT INTO t VALUES (1)`))
      expect(told(client)).toBe('ROLLBACK BEGIN ZT')
      await world.settle()
      const written = frames(world.bytesTo(client.server)).frames.map(({ body }) => textOf(body))
      expect(written[0]).toMatch(/^;?(\/\* a \*\/)? *BEGIN$/)
      expect(written.slice(1)).toEqual([`${HINT}INSERT INTO t VALUES (1)`])
    },
  )

  test.each(['', 'end'])(
    'a pipeline that begins with ROLLBACK (as %j) goes on behind it',
    async (name) => {
      const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
      await lose(world, server, way)
      client.take()
      const end = [
        frontend.parse(name, 'ROLLBACK'),
        frontend.bind({ statement: name }),
        frontend.execute(),
      ]
      const insert = [frontend.parse('', `${HINT}INSERT INTO t VALUES (1)`), frontend.bind()]
      client.sends(Buffer.concat([...end, ...insert, frontend.execute(), frontend.sync()]))
      expect(told(client)).toBe('1 2 ROLLBACK')
      await world.settle()
      const types = frames(world.bytesTo(client.server)).frames.map(({ type }) => type)
      expect(types).toEqual(['P', 'B', 'E', 'S'])
    },
  )

  test('a pipeline that begins with a lone ROLLBACK and a Flush is answered at once', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    await lose(world, server, way)
    client.take()
    client.sends(frontend.parse('', 'ROLLBACK'), frontend.bind(), frontend.execute())
    client.sends(frontend.flush())
    expect(told(client)).toBe('1 2 ROLLBACK')
  })

  test('a pipeline that reads first is refused up to its Sync, whatever comes behind', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    await lose(world, server, way)
    client.take()
    const read = [frontend.parse('', 'SELECT 1'), frontend.bind(), frontend.execute()]
    const end = [frontend.parse('', 'ROLLBACK'), frontend.bind(), frontend.execute()]
    client.sends(Buffer.concat([...read, ...end, frontend.sync()]))
    expect(told(client)).toBe('25P02 ZE')
  })

  test('what follows the end of a lost transaction in one Query keeps its place in the text', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    await lose(world, server, way)
    client.take()
    client.sends(frontend.query(`${HINT}ROLLBACK; INSERT INTO t VALUES (1); SELECT 1`))
    expect(told(client)).toBe('ROLLBACK')
    await world.settle()
    const [written] = frames(world.bytesTo(client.server)).frames
    expect(textOf(written?.body ?? Buffer.alloc(0))).toBe(
      `${HINT}          INSERT INTO t VALUES (1); SELECT 1`,
    )
  })

  test('a COMMIT before others is no success where nobody was told, and they do not run', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    server.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery('T')]))
    client.take()
    await lose(world, server, way)
    client.sends(frontend.query('COMMIT; BEGIN; INSERT INTO t VALUES (1)'))
    expect(told(client)).toBe('40001 ZI')
    expect([client.session.state, client.session.server]).toEqual(['idle', null])
  })

  test.each(['simple', 'extended'] as const)(
    'ROLLBACK AND CHAIN begins the next transaction, %s',
    async (protocol) => {
      const texts = ['BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT 1', 'SELECT 2']
      const { world, client, server } = await flight('primary', 'simple', texts)
      await lose(world, server, way)
      client.take()
      client.sends(says(protocol, 'ROLLBACK AND CHAIN'))
      expect(told(client)).toBe(protocol === 'simple' ? 'ROLLBACK ZT' : '1 2 n ROLLBACK ZT')
      client.sends(frontend.query('INSERT INTO t VALUES (1)'))
      await world.settle()
      const [begin] = frames(world.bytesTo(client.server)).frames
      expect(textOf(begin?.body ?? Buffer.alloc(0))).toBe(`${HINT}${texts[0]}`)
    },
  )

  test('a lost transaction ends in the extended protocol, and its names are known', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    await lose(world, server, way)
    client.take()
    client.sends(frontend.parse('r', 'ROLLBACK'), frontend.describe('S', 'r'), frontend.sync())
    expect(told(client)).toBe('1 t n ZE')
    client.sends(frontend.sync())
    expect(told(client)).toBe('ZE')
    client.sends(frontend.bind({ statement: 'r' }), frontend.describe('P'), frontend.execute())
    client.sends(frontend.sync())
    expect(client.session.prepared.get('r')).toBeDefined()
    expect(told(client)).toBe('2 n ROLLBACK ZI')
  })

  test('a BEGIN that was on its way begins a lost transaction', async () => {
    const { world, client, server } = await flight('primary', 'simple', ['BEGIN READ WRITE'])
    await lose(world, server, way)
    expect(told(client)).toBe('40001 ZE')
    client.sends(frontend.query('INSERT INTO t VALUES (1)'), frontend.query('ROLLBACK'))
    expect(told(client)).toBe('25P02 ZE ROLLBACK ZI')
  })

  test.each(['simple', 'extended'] as const)(
    'a ROLLBACK behind what was lost needs no server, once, %s',
    async (protocol) => {
      const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'COMMIT'])
      await lose(world, server, way)
      client.take()
      client.sends(says(protocol, 'ROLLBACK'))
      expect(told(client)).toBe(`N ${protocol === 'simple' ? '' : '1 2 n '}ROLLBACK ZI`)
      client.sends(frontend.query('ROLLBACK'))
      await world.settle()
      expect(world.written(client.server)).toBe('Q')
    },
  )
})
