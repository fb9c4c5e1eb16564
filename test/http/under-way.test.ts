/** Answers whose connection ends, or is busy with another answer, while they are made. */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { SecretBytes } from '../../src/crypto/secret.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const PLAINTEXT = Buffer.from('a data key of thirty-two bytes..');

/** Holds the answers of one operation until told. */
class Gate {
  entered = Promise.withResolvers<undefined>();
  open = Promise.withResolvers<undefined>();

  async pass(): Promise<void> {
    this.entered.resolve(undefined);
    await this.open.promise;
  }

  close(): void {
    this.entered = Promise.withResolvers();
    this.open = Promise.withResolvers();
  }
}

async function eventually(holds: () => boolean): Promise<boolean> {
  for (let turn = 0; turn < 200 && !holds(); turn += 1) await sleep(10);
  return holds();
}

describe('an answer under way', () => {
  const unwraps = new Gate();
  const randoms = new Gate();
  const plaintexts: SecretBytes[] = [];
  let service: Service;
  let token: string;
  let ciphertext: Buffer;

  beforeAll(async () => {
    service = await openService({
      replace: ({ use }) => ({
        use: Object.assign(Object.create(use) as typeof use, {
          unwrap: async (...call: Parameters<typeof use.unwrap>) => {
            const opened = await use.unwrap(...call);
            plaintexts.push(opened.plaintext);
            await unwraps.pass();
            return opened;
          },
          random: async (...call: Parameters<typeof use.random>) => {
            await randoms.pass();
            return use.random(...call);
          },
        }),
      }),
    });
    token = await service.token('admin');
    const json = { name: 'k', suite: 'A256GCM' };
    await service.call('admin', 'POST', '/v1/admin/keys', { json });
    const wrapped = await service.call('admin', 'POST', '/v1/keys/k/wrap', {
      body: PLAINTEXT as Uint8Array<ArrayBuffer>,
      headers: {
        'content-type': 'application/octet-stream',
        accept: 'application/octet-stream',
      },
    });
    ciphertext = wrapped.bytes;
  });
  afterAll(() => service.stop());

  const post = (path: string, type: string, body: Buffer) => {
    const head = [
      `POST ${path} HTTP/1.1`,
      'Host: x',
      `Authorization: Bearer ${token}`,
      `Content-Type: ${type}`,
      `Content-Length: ${body.length}`,
    ];
    return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]);
  };
  const octets = (path: string) => post(path, 'application/octet-stream', ciphertext);
  const random = () => post('/v1/random', 'application/json', Buffer.from('{"bytes":8}'));

  const open = async (): Promise<Socket> => {
    const socket = connect(service.port, '127.0.0.1').on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  };
  const wiped = () =>
    plaintexts.length === 1 && plaintexts.every((plaintext) => !isReadable(plaintext));
  const reported = (route: string, from: number) =>
    service.reports.slice(from).some((report) => report.route === route);

  it.each(['application/octet-stream', 'application/json'])(
    'to a client that left is wiped and reported (%s)',
    async (type) => {
      unwraps.close();
      plaintexts.length = 0;
      const before = service.reports.length;
      const body =
        type === 'application/json'
          ? Buffer.from(JSON.stringify({ ciphertext: `tf1.${ciphertext.toString('base64url')}` }))
          : ciphertext;
      const socket = await open();
      socket.write(post('/v1/keys/k/unwrap', type, body));
      await unwraps.entered.promise;
      socket.destroy();
      await sleep(50);
      unwraps.open.resolve(undefined);
      expect(await eventually(wiped)).toBe(true);
      expect(await eventually(() => reported('unwrap', before))).toBe(true);
    },
  );

  it('behind another, to a client that left, is wiped and reported', async () => {
    [unwraps, randoms].forEach((gate) => gate.close());
    unwraps.open.resolve(undefined);
    plaintexts.length = 0;
    const before = service.reports.length;
    const socket = await open();
    socket.write(Buffer.concat([random(), octets('/v1/keys/k/unwrap')]));
    await Promise.all([randoms.entered.promise, unwraps.entered.promise]);
    // The second answer is queued behind the first, which is held.
    await sleep(100);
    socket.destroy();
    expect(await eventually(wiped)).toBe(true);
    expect(await eventually(() => reported('unwrap', before))).toBe(true);
    randoms.open.resolve(undefined);
    expect(await eventually(() => reported('random', before))).toBe(true);
  });

  it('behind another keeps its bytes: a ciphertext that was not changed is the request body', async () => {
    randoms.close();
    const socket = await open();
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    const before = service.drafts.length;
    socket.write(Buffer.concat([random(), octets('/v1/keys/k/rewrap')]));
    await eventually(() => service.drafts.slice(before).some(isRewrap));
    await sleep(100);
    randoms.open.resolve(undefined);
    const received = () => Buffer.concat(chunks);
    await eventually(() => received().toString('latin1').includes('Twofold-Changed: false'));
    expect(await eventually(() => received().includes(ciphertext))).toBe(true);
    socket.destroy();
  });
});

describe('behind an answer under way', () => {
  it('garbage is refused last: every request before it keeps its answer', async () => {
    const service = await openService();
    const socket = connect(service.port, '127.0.0.1');
    try {
      const chunks: string[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk.toString('latin1')));
      const authorization = `Authorization: Bearer ${await service.token('admin')}`;
      const whoami = `GET /v1/whoami HTTP/1.1\r\nHost: x\r\n${authorization}\r\n\r\n`;
      socket.write(`${whoami.repeat(3)}garbage\r\n\r\n`);
      await once(socket, 'close');
      const statuses = chunks.join('').matchAll(/HTTP\/1\.1 ([0-9]{3}) /g);
      expect([...statuses].map(([, status]) => status)).toEqual(['200', '200', '200', '400']);
    } finally {
      socket.destroy();
      await service.stop();
    }
  });

  it('a client that does not read is cut off', async () => {
    const [each, many] = [1024 * 1024, 64];
    const service = await openService({
      document: 'x'.repeat(each),
      options: { limits: { stalledMs: 300 } },
    });
    const socket = connect(service.port, '127.0.0.1').on('error', () => undefined);
    try {
      socket.pause();
      socket.write('GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(many));
      await sleep(1500);
      let received = 0;
      socket.on('data', (chunk: Buffer) => (received += chunk.length)).resume();
      await Promise.race([once(socket, 'close'), sleep(3000)]);
      expect(socket.closed).toBe(true);
      expect(received).toBeLessThan(each * many);
    } finally {
      socket.destroy();
      await service.stop();
    }
  });
});

const isRewrap = ({ operation }: { readonly operation: string }) => operation === 'rewrap';

function isReadable(secret: SecretBytes): boolean {
  try {
    return secret.reveal().some((byte) => byte !== 0);
  } catch {
    return false;
  }
}
