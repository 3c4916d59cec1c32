import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { KeyDeriver } from '../../src/auth/derive.ts'
import { LOGIN_MOVES } from '../../src/client/login.ts'
import { errorFields, type Frame, frontend, message, raw } from '../support/bytes.ts'
import { useFronts } from '../support/front.ts'
import { waitFor } from '../support/wait.ts'

const { open, connect, login, refusal, session } = useFronts()

const PLAIN = '"alice" "secret"\n"bob" "builder"\n'

async function scramSecret(password: string): Promise<string> {
  const salt = Buffer.from('some salt of ours')
  const { storedKey, serverKey } = await new KeyDeriver().keys(password, salt, 4096)
  const [stored, server] = [storedKey.toString('base64'), serverKey.toString('base64')]
  return `SCRAM-SHA-256$4096:${salt.toString('base64')}$${stored}:${server}`
}

const md5 = (text: string): string => createHash('md5').update(text).digest('hex')

describe('authentication', () => {
  it('by trust needs no proof, but the user', async () => {
    const front = await open({ keys: 'auth_type = trust', userlist: PLAIN })
    expect((await login(front)).types).toBe('RSSKZ')
    expect((await session(front)).secret).toEqual({ kind: 'plain', password: 'secret' })
    const stranger = await login(front, { user: 'stranger' })
    expect(stranger.errors[0]).toMatchObject({
      S: 'FATAL',
      C: '08P01',
      M: '"trust" authentication failed',
    })
  })

  it.each(['plain', 'scram-sha-256'])('by %s takes the right password only', async (method) => {
    const front = await open({ keys: `auth_type = ${method}`, userlist: PLAIN })
    expect((await login(front)).status).toBe('I')
    expect((await session(front)).secret).toEqual({ kind: 'plain', password: 'secret' })
    const wrong = await login(front, { password: 'wrong' })
    expect(wrong.errors[0]?.['M']).toMatch(/^(?:password|SASL) authentication failed$/)
  })

  it('by plain checks md5 and SCRAM secrets too and keeps the password for the servers', async () => {
    const stored = `"alice" "md5${md5('secretalice')}"\n"bob" "${await scramSecret('secret')}"\n`
    const front = await open({ keys: 'auth_type = plain', userlist: stored })
    for (const user of ['alice', 'bob']) {
      expect((await login(front, { user })).status).toBe('I')
      expect((await session(front)).secret).toEqual({ kind: 'plain', password: 'secret' })
      expect((await login(front, { user, password: 'wrong' })).errors).toHaveLength(1)
    }
  })

  it('by md5 answers a fresh salt', async () => {
    const userlist = `"alice" "md5${md5('secretalice')}"\n`
    const front = await open({ keys: 'auth_type = md5', userlist })
    const salts: string[] = []
    for (const password of ['secret', 'wrong']) {
      const client = await connect(front)
      client.send(frontend.startup({ user: 'alice', database: 'app' }))
      const { body } = (await client.next()) as Frame
      expect(body.readInt32BE(0)).toBe(5)
      salts.push(body.toString('hex', 4))
      const inner = md5(`${password}alice`)
      const salted = createHash('md5').update(inner).update(body.subarray(4)).digest('hex')
      client.send(frontend.password(`md5${salted}`))
      const answer = await client.until('ZE')
      expect(answer.status ?? answer.errors[0]?.['M']).toBe(
        password === 'secret' ? 'I' : 'password authentication failed',
      )
    }
    expect(salts[0]).not.toBe(salts[1])
  })

  it('by md5 becomes SCRAM where the secret is SCRAM, and learns the keys', async () => {
    const userlist = `"alice" "${await scramSecret('secret')}"\n`
    const front = await open({ keys: 'auth_type = md5', userlist })
    expect((await login(front)).status).toBe('I')
    const { secret } = await session(front)
    const keys = await new KeyDeriver().keys('secret', Buffer.from('some salt of ours'), 4096)
    expect(secret).toMatchObject({ kind: 'scram', clientKey: keys.clientKey, iterations: 4096 })
  })

  it('follows the first HBA line that fits', async () => {
    const hba =
      'host all bob 127.0.0.1/32 reject\nhost app alice 127.0.0.0 255.0.0.0 trust\nlocal all all peer\n'
    const front = await open({ keys: 'auth_type = hba', userlist: PLAIN, hba })
    expect((await login(front)).status).toBe('I')
    expect((await login(front, { user: 'bob' })).errors[0]?.['M']).toBe('login rejected')
    expect((await login(front, { user: 'carol' })).errors[0]?.['M']).toBe(
      'no authentication method is found',
    )
  })
})

describe('an entry with a forced user', () => {
  it.each([
    ['app = host=127.0.0.1 user=bob', { kind: 'plain', password: 'builder' }],
    ['app = host=127.0.0.1 user=bob password=other', { kind: 'plain', password: 'other' }],
    ['app = host=127.0.0.1 user=carol', { kind: 'none' }],
    ['app = host=127.0.0.1 user=alice', { kind: 'plain', password: 'secret' }],
  ])("%s logs in to servers with that user's secret", async (databases, secret) => {
    const front = await open({ keys: 'auth_type = plain', userlist: PLAIN, databases })
    expect((await login(front)).status).toBe('I')
    expect((await session(front)).secret).toEqual(secret)
  })
})

describe('who is not authenticated', () => {
  it('cannot tell an unknown user, an unknown database or a wrong password apart', async () => {
    const front = await open({ keys: 'auth_type = scram-sha-256', userlist: PLAIN })
    const told = await Promise.all([
      login(front, { password: 'wrong' }),
      login(front, { user: 'nobody' }),
      login(front, { user: 'nobody', database: 'nowhere' }),
      login(front, { database: 'nowhere', password: 'wrong' }),
    ])
    const shapes = told.map((answer) => [answer.types, answer.errors[0]?.['M']])
    expect(new Set(shapes.map(String))).toEqual(new Set(['RRE,SASL authentication failed']))
  })

  it('sees the same salt for an unknown user at each attempt', async () => {
    const front = await open({ keys: 'auth_type = scram-sha-256', userlist: PLAIN })
    const saltOf = async (user: string): Promise<string | undefined> => {
      const { frames } = await login(front, { user, password: 'x' })
      return /s=([^,]+)/.exec(frames[1]?.body.toString() ?? '')?.[1]
    }
    expect(await saltOf('nobody')).toBe(await saltOf('nobody'))
    expect(await saltOf('alice')).toBe(await saltOf('alice'))
  })

  it('learns of a missing database only after the proof', async () => {
    const front = await open({ keys: 'auth_type = scram-sha-256', userlist: PLAIN })
    const answer = await login(front, { database: 'nowhere' })
    expect(answer.errors[0]).toMatchObject({ M: 'no such database: nowhere', C: '08P01' })
    const native = await open({
      keys: 'auth_type = trust',
      userlist: PLAIN,
      pgsteer: 'error_codes = postgres',
    })
    expect((await login(native, { database: 'nowhere' })).sqlstate).toBe('3D000')
  })
})

describe('auth_query', () => {
  it('is asked for users who are not in the file, once for many', async () => {
    const asked: string[] = []
    const query = (user: string): Promise<string | null> => {
      asked.push(user)
      return Promise.resolve(user === 'carol' ? 'secret' : null)
    }
    const front = await open({ keys: 'auth_type = plain', userlist: PLAIN, query })
    const answers = await Promise.all(
      ['carol', 'carol', 'alice'].map((user) => login(front, { user })),
    )
    expect(answers.map((answer) => answer.status)).toEqual(['I', 'I', 'I'])
    expect(asked).toEqual(['carol'])
  })

  it('is asked again after a wrong password, which may be the new one', async () => {
    let password = 'old'
    const query = (): Promise<string> => Promise.resolve(password)
    const front = await open({ keys: 'auth_type = plain', query })
    expect((await login(front, { password: 'old' })).status).toBe('I')
    password = 'new'
    expect((await login(front, { password: 'new' })).errors).toHaveLength(1)
    expect((await login(front, { password: 'new' })).status).toBe('I')
  })
})

describe('the console', () => {
  const keys = 'auth_type = trust\nadmin_users = alice\nstats_users = bob'

  it.each([
    ['alice', 'admin'],
    ['bob', 'stats'],
  ])('lets %s in as %s', async (user, role) => {
    const front = await open({ keys, userlist: PLAIN })
    expect((await login(front, { user, database: 'pgbouncer' })).status).toBe('I')
    expect(await session(front)).toMatchObject({ isConsole: true, consoleRole: role })
  })

  it('lets nobody else in', async () => {
    const front = await open({ keys, userlist: `${PLAIN}"carol" "x"\n` })
    const answer = await login(front, { user: 'carol', database: 'pgbouncer' })
    expect(answer.errors[0]?.['M']).toBe('not allowed')
  })
})

describe('the startup packet', () => {
  const trust = { keys: 'auth_type = trust', userlist: PLAIN }

  it('gives its settings, those of options among them, in lower case', async () => {
    const front = await open(trust)
    const options =
      '-c Statement_Timeout=5s  --work-mem=1MB -csearch_path=a\\ b -c pgsteer.route=primary'
    await login(front, { parameters: { DateStyle: 'ISO', options, application_name: 'x' } })
    const { startup, user, database, replication } = await session(front)
    expect({ user, database, replication }).toEqual({
      user: 'alice',
      database: 'app',
      replication: null,
    })
    expect(Object.fromEntries(startup)).toEqual({
      datestyle: 'ISO',
      statement_timeout: '5s',
      work_mem: '1MB',
      search_path: 'a b',
      'pgsteer.route': 'primary',
      application_name: 'x',
    })
  })

  it('drops what ignore_startup_parameters names', async () => {
    const front = await open({
      ...trust,
      keys: `${trust.keys}\nignore_startup_parameters = Extra_Float_Digits, options`,
    })
    const parameters = { extra_float_digits: '2', options: '-f -c a=1' }
    expect((await login(front, { parameters })).status).toBe('I')
    expect(Object.fromEntries((await session(front)).startup)).toEqual({ a: '1' })
  })

  it('uses the user as database when none is given', async () => {
    const front = await open({ ...trust, databases: '* = host=127.0.0.1' })
    const client = await connect(front)
    client.send(frontend.startup({ user: 'alice' }))
    await client.ready()
    expect((await session(front)).database).toBe('alice')
  })

  it.each([
    ['database', 'logical'],
    ['true', 'physical'],
    ['off', null],
  ])('with replication = %s asks for %s', async (value, replication) => {
    const front = await open(trust)
    await login(front, { parameters: { replication: value } })
    expect((await session(front)).replication).toBe(replication)
  })

  it('appends the address to application_name when it should', async () => {
    const front = await open({ ...trust, keys: `${trust.keys}\napplication_name_add_host = 1` })
    await login(front, { parameters: { application_name: 'x' } })
    expect((await session(front)).startup.get('application_name')).toMatch(/^x - 127\.0\.0\.1:\d+$/)
  })

  it.each([
    ['no user', frontend.startup({ database: 'app' }), 'no username supplied'],
    ['a long user', frontend.startup({ user: 'u'.repeat(128) }), 'username too long'],
    [
      'options of another form',
      frontend.startup({ user: 'alice', options: '-f' }),
      "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
    ],
    [
      'options with a bad name',
      frontend.startup({ user: 'alice', options: '-c 1x=2' }),
      'unsupported startup parameter in options: 1x',
    ],
    [
      'a name that is none',
      frontend.startup({ user: 'alice', 'a b': 'c' }),
      'unsupported startup parameter: a b',
    ],
    [
      'another replication',
      frontend.startup({ user: 'alice', replication: 'maybe' }),
      'unsupported startup parameter: replication',
    ],
    ['protocol 2', frontend.startup({ user: 'alice' }, 2, 0), 'old V2 protocol not supported'],
    [
      'protocol 4',
      frontend.startup({ user: 'alice' }, 4, 0),
      'unsupported frontend protocol 4.0: server supports 3.0 to 3.2',
    ],
    [
      'bytes after the end',
      raw.join([
        raw.int32(19),
        raw.int32(196_608),
        raw.cstring('user'),
        raw.cstring('a'),
        0,
        0,
        0,
        0,
      ]),
      'invalid startup packet layout: expected terminator as last byte',
    ],
    [
      'no end',
      raw.join([raw.int32(13), raw.int32(196_608), raw.cstring('user')]),
      'invalid startup packet layout: expected terminator as last byte',
    ],
    ['a length of 7', raw.join([raw.int32(7), raw.int32(0)]), "bad packet header: '00000007'"],
    ['a negative length', raw.join([raw.int32(-1), raw.int32(0)]), "bad packet header: 'ffffffff'"],
    ['a huge length', raw.join([raw.int32(10_001), raw.int32(0)]), "bad packet header: '00002711'"],
    [
      'a user that is not UTF-8',
      raw.join([raw.int32(16), raw.int32(196_608), raw.cstring('user'), 0xff, 0, 0]),
      'broken startup packet',
    ],
    [
      'a cancel key of 3 bytes',
      raw.join([raw.int32(15), raw.int32(80_877_102), raw.int32(1), Buffer.alloc(3)]),
      "bad packet header: '04d2162e00000001'",
    ],
    [
      'a cancel key of 257 bytes',
      raw.join([raw.int32(269), raw.int32(80_877_102), raw.int32(1), Buffer.alloc(257)]),
      "bad packet header: '04d2162e00000001'",
    ],
  ])('with %s is refused', async (_, bytes, text) => {
    const front = await open(trust)
    expect(await refusal(front, bytes)).toBe(text)
  })
})

describe('version negotiation', () => {
  const trust = { keys: 'auth_type = trust', userlist: PLAIN }
  const negotiated = async (minor: number, parameters: Record<string, string>) => {
    const front = await open(trust)
    const { frames } = await login(front, { minor, parameters })
    const { protocolMinor } = await session(front)
    const [first] = frames
    return { protocolMinor, answer: first?.type === 'v' ? first.body.toString('hex') : null }
  }

  it('is silent for 3.0 and 3.2', async () => {
    expect(await negotiated(0, {})).toEqual({ protocolMinor: 0, answer: null })
    expect(await negotiated(2, {})).toEqual({ protocolMinor: 2, answer: null })
  })

  it('answers 3.9999 with 3.2 and every unknown option', async () => {
    const { protocolMinor, answer } = await negotiated(9999, {
      '_pq_.test_protocol_negotiation': 'x',
      '_pq_.b': '',
    })
    const names = Buffer.from('_pq_.test_protocol_negotiation\0_pq_.b\0').toString('hex')
    expect({ protocolMinor, answer }).toEqual({
      protocolMinor: 2,
      answer: `0003000200000002${names}`,
    })
  })

  it('never answers with more than was asked for', async () => {
    const { answer } = await negotiated(0, { '_pq_.b': '' })
    expect(answer).toBe(`0003000000000001${Buffer.from('_pq_.b\0').toString('hex')}`)
  })
})

describe('requests before the startup packet', () => {
  it('are answered N without TLS, each once', async () => {
    const front = await open({ keys: 'auth_type = trust', userlist: PLAIN })
    const client = await connect(front)
    const answers: Buffer[] = []
    client.socket.prependListener('data', (bytes: Buffer) => answers.push(bytes))
    client.send(frontend.gssEncRequest())
    await waitFor('N', () => Buffer.concat(answers).toString() === 'N')
    client.send(frontend.sslRequest())
    await waitFor('NN', () => Buffer.concat(answers).toString() === 'NN')
    client.send(frontend.sslRequest())
    await client.ended()
    expect(front.refusals[0]?.message).toBe(
      'unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2',
    )
  })

  it.each([4, 32, 256])('to cancel carry keys of %i bytes', async (bytes) => {
    const front = await open()
    const client = await connect(front)
    const key = Buffer.alloc(bytes, 7)
    client.send(frontend.cancelRequest(4_000_000_000 | 0, key))
    await client.ended()
    expect(front.arrivals).toEqual([{ kind: 'cancel', processId: 4_000_000_000, secret: key }])
  })
})

describe('the exchange', () => {
  const scram = { keys: 'auth_type = scram-sha-256', userlist: PLAIN }
  const plain = { keys: 'auth_type = plain', userlist: PLAIN }
  const startup = frontend.startup({ user: 'alice', database: 'app' })

  it.each([
    [
      'another mechanism',
      frontend.saslInitial('PLAIN', 'x'),
      'client selected an invalid SASL authentication mechanism',
    ],
    [
      '-PLUS without TLS',
      frontend.saslInitial('SCRAM-SHA-256-PLUS', 'x'),
      'client selected an invalid SASL authentication mechanism',
    ],
    [
      'no response',
      message('p', raw.cstring('SCRAM-SHA-256'), raw.int32(-1)),
      'broken SASL packet',
    ],
    [
      'a wrong length',
      message('p', raw.cstring('SCRAM-SHA-256'), raw.int32(9), 'n,,'),
      'broken SASL packet',
    ],
    ['no mechanism', message('p', 'SCRAM'), 'broken SASL packet'],
    ['another message', frontend.query('select 1'), 'unknown pkt'],
    ['a message without end', raw.join(['p', raw.int32(2_000_000_000)]), 'password too long'],
    ['a length of 3', raw.join(['p', raw.int32(3)]), "bad packet header: '7000000003'"],
  ])('of SCRAM with %s is refused', async (_, bytes, text) => {
    expect(await refusal(await open(scram), startup, bytes)).toBe(text)
  })

  it.each([
    ['an empty password', frontend.password(''), 'empty password returned by client'],
    ['two strings', message('p', 'secret\0x\0'), 'broken password packet'],
    ['no string', message('p'), 'broken password packet'],
  ])('of a password with %s is refused', async (_, bytes, text) => {
    expect(await refusal(await open(plain), startup, bytes)).toBe(text)
  })
})

describe('a log-in', () => {
  it('does not depend on how the bytes are cut', async () => {
    const front = await open({ keys: 'auth_type = plain', userlist: PLAIN })
    const client = await connect(front)
    const bytes = [
      frontend.startup({ user: 'alice', database: 'app' }),
      frontend.password('secret'),
    ]
    for (const byte of Buffer.concat(bytes)) {
      client.send(Buffer.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect((await client.ready()).status).toBe('I')
  })

  it('ends when the client does not get on with it', async () => {
    const front = await open({ keys: 'auth_type = plain\nclient_login_timeout = 0.05' })
    const client = await connect(front)
    client.send(frontend.startup({ user: 'alice', database: 'app' }))
    const answer = await client.until('E')
    expect(answer.errors[0]?.['M']).toBe('client_login_timeout')
    await client.ended()
  })

  it('ends although the client reads nothing', async () => {
    const front = await open({ keys: 'auth_type = plain\nclient_login_timeout = 0.05' })
    const client = await connect(front)
    client.socket.pause()
    await waitFor('the refusal', () => front.refusals[0])
    expect(front.refusals[0]?.code).toBe('client_login_timeout')
  })

  it('ends quietly when the client goes away', async () => {
    const front = await open()
    const client = await connect(front)
    client.send(Buffer.of(0, 0))
    client.destroy()
    expect((await waitFor('the refusal', () => front.refusals[0])).code).toBe('client_eof')
  })

  it('is refused while the pooler shuts down', async () => {
    const front = await open({
      keys: 'auth_type = trust',
      userlist: PLAIN,
      context: { isShuttingDown: () => true },
    })
    expect((await login(front)).errors[0]?.['M']).toBe('pooler is shutting down')
  })

  it('is refused for a disabled database', async () => {
    const front = await open({
      keys: 'auth_type = trust',
      userlist: PLAIN,
      context: { isDisabled: () => true },
    })
    expect((await login(front)).errors[0]?.['M']).toBe('database "app" is disabled')
  })

  it('of random bytes ends with an error of the table or the end of the connection', async () => {
    const front = await open({
      keys: 'auth_type = plain\nclient_login_timeout = 0.3',
      userlist: PLAIN,
    })
    const random = fc.sample(fc.uint8Array({ minLength: 1, maxLength: 50 }), {
      numRuns: 60,
      seed: 20_261_123,
    })
    const prefixes = [
      Buffer.alloc(0),
      raw.int32(40),
      raw.join([raw.int32(40), raw.int32(196_608)]),
      frontend.startup({ user: 'alice', database: 'app' }),
    ]
    const attempts = random.map(async (bytes, index) => {
      const client = await connect(front)
      client.send(prefixes[index % prefixes.length] ?? raw.int32(0), Buffer.from(bytes))
      client.socket.end()
      await client.ended()
    })
    await Promise.all(attempts)
    await waitFor('all refusals', () => front.refusals.length === 60)
    expect(front.refusals.map((error) => error.code)).not.toContain('internal')
  })
})

describe('the table of the log-in', () => {
  it('reaches every state, and every open one can close', () => {
    const moves: Readonly<Record<string, readonly string[]>> = LOGIN_MOVES
    const reached = new Set(['opening'])
    for (const state of reached) for (const next of moves[state] ?? []) reached.add(next)
    expect([...reached].toSorted()).toEqual(Object.keys(moves).toSorted())
    for (const next of Object.values(moves)) if (next.length > 0) expect(next).toContain('closed')
  })
})

it('an ErrorResponse says S, V, C and M', async () => {
  const front = await open({ keys: 'auth_type = trust' })
  const answer = await login(front, { user: 'x' })
  const error = answer.frames.find((frame) => frame.type === 'E')
  expect(Object.keys(errorFields(error?.body ?? Buffer.alloc(0)))).toEqual(['S', 'V', 'C', 'M'])
})
