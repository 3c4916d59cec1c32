import { describe, expect, it } from 'vitest'
import { frontend, raw } from '../support/bytes.ts'
import { useFronts } from '../support/front.ts'

const { open, connect, refusal, session } = useFronts()

const PLAIN = '"alice" "secret"\n'

const v2 = (versionCommand: number, family: number, body: Buffer): Buffer =>
  Buffer.concat([
    Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
    Buffer.of(versionCommand, family),
    raw.int16(body.length),
    body,
  ])
describe('the PROXY protocol', () => {
  const trusted = {
    keys: 'auth_type = hba',
    userlist: PLAIN,
    hba: 'host all all 203.0.113.9/32 trust\nhost all all 2001:db8::/32 trust\n',
    pgsteer: 'proxy_protocol_networks = 127.0.0.0/8',
  }
  const startup = frontend.startup({ user: 'alice', database: 'app' })
  const ipv4 = Buffer.of(203, 0, 113, 9, 127, 0, 0, 1, 0x30, 0x39, 0, 80)

  it.each([
    ['version 1', Buffer.from('PROXY TCP4 203.0.113.9 127.0.0.1 12345 6432\r\n'), '203.0.113.9'],
    [
      'version 1 over IPv6',
      Buffer.from('PROXY TCP6 2001:db8::7 ::1 12345 6432\r\n'),
      '2001:db8::7',
    ],
    ['version 2', v2(0x21, 0x11, ipv4), '203.0.113.9'],
    [
      'version 2 with TLVs',
      v2(0x21, 0x11, Buffer.concat([ipv4, Buffer.alloc(200)])),
      '203.0.113.9',
    ],
  ])('in %s gives the address that the rules see', async (_, header, address) => {
    const front = await open(trusted)
    const client = await connect(front)
    client.send(header, startup)
    expect((await client.ready()).status).toBe('I')
    const { channel } = await session(front)
    expect(channel.remoteAddress).toBe(address)
    expect(channel.remotePort).toBe(12_345)
  })

  it.each([
    ['none', startup, 'none was sent'],
    ['a line without end', Buffer.from(`PROXY ${'x'.repeat(200)}`), 'line without end'],
    ['another family', Buffer.from('PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n'), 'unknown protocol'],
    ['a bad address', Buffer.from('PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n'), 'bad address'],
    ['an address of the other family', Buffer.from('PROXY TCP4 ::1 ::1 1 1\r\n'), 'bad address'],
    ['a bad port', Buffer.from('PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n'), 'bad port'],
    ['version 3', v2(0x31, 0x11, ipv4), 'unknown version'],
    ['another command', v2(0x22, 0x11, ipv4), 'unknown command'],
    ['too few bytes', v2(0x21, 0x11, ipv4.subarray(0, 8)), 'too short'],
    ['too many bytes', v2(0x21, 0x11, Buffer.alloc(5000)), 'too long'],
  ])('with %s is refused', async (_, header, reason) => {
    expect(await refusal(await open(trusted), header)).toBe(`bad PROXY protocol header: ${reason}`)
  })

  it('is not expected from other networks', async () => {
    const front = await open({ ...trusted, pgsteer: 'proxy_protocol_networks = 10.0.0.0/8' })
    const header = Buffer.from('PROXY TCP4 203.0.113.9 127.0.0.1 12345 6432\r\n')
    expect(await refusal(front, header)).toMatch(/^bad packet header: /)
  })

  it('of the balancer itself keeps the address of the connection', async () => {
    const front = await open({ ...trusted, hba: 'host all all 127.0.0.1/32 trust' })
    for (const header of [v2(0x20, 0, Buffer.alloc(0)), Buffer.from('PROXY UNKNOWN\r\n')]) {
      const client = await connect(front)
      client.send(header, startup)
      expect((await client.ready()).status).toBe('I')
    }
  })
})
