/** Nobody keeps the logs from a witness by being slow, many, or both. */
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:net';
import type { Socket } from 'node:net';

import { afterEach, describe, expect, it } from '@jest/globals';

import type { WitnessAnswer } from '../../src/audit/witness/witness.ts';
import { openWitnessListener } from '../../src/main/witness-listener.ts';
import type { WitnessBounds, WitnessListener } from '../../src/main/witness-listener.ts';
import { exchange } from '../../src/main/log-places.ts';

/** Loopback addresses of two who know nothing of each other. */
const LOG = '127.0.0.1';
const OTHER = '127.0.0.2';
const HEAD = 'POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 400000\r\n\r\n';

let listener: WitnessListener;
let sockets: Socket[] = [];
let asked: string[] = [];
let release: (() => void)[] = [];

const listen = async (bounds?: WitnessBounds, holds: (body: string) => boolean = () => false) => {
  const addCheckpoint = async (body: string): Promise<WitnessAnswer> => {
    asked.push(body);
    if (holds(body)) await new Promise<void>((resolve) => release.push(resolve));
    return { status: 200, lines: `${body}\n` };
  };
  const at = { host: '127.0.0.1', port: 0 };
  listener = await openWitnessListener({ addCheckpoint }, at, () => undefined, bounds);
};
const port = () => listener.address.port;
const open = async (from: string, text = ''): Promise<Socket> => {
  const socket = connect({ host: '127.0.0.1', port: port(), localAddress: from });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  if (text !== '') socket.write(text);
  return socket;
};
const post = (body: string) =>
  exchange(`http://127.0.0.1:${String(port())}/add-checkpoint`, 'POST', body);
/** Sends a byte of its body now and then, as slowly as it can. */
const dribble = async (from: string) => {
  const socket = await open(from, HEAD);
  const timer = setInterval(() => socket.write('x'), 50);
  socket.once('close', () => clearInterval(timer));
  return socket;
};
const whole = (body: string) =>
  `POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: ${String(body.length)}\r\n\r\n${body}`;
const statusOf = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    socket.once('data', (data) => resolve(data.toString('latin1').slice(9, 12)));
    socket.once('close', () => resolve('cut'));
  });

const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await sleep(5);
};

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  for (const each of release) each();
  await listener.close();
  [sockets, asked, release] = [[], [], []];
});

describe('the listener of a witness', () => {
  it.each([OTHER, LOG])(
    'answers while %s dribbles bodies over more connections than are read at once',
    async (from) => {
      await listen();
      const slow = await Promise.all(Array.from({ length: 200 }, () => dribble(from)));
      await sleep(200);
      for (let i = 0; i < 20; i += 1) {
        expect(await post(`log ${String(i)}`)).toEqual({ status: 200, body: `log ${String(i)}\n` });
        await dribble(from);
      }
      expect(slow.filter(({ destroyed }) => !destroyed).length).toBeLessThanOrEqual(64);
    },
  );

  it('answers while another holds all connections open and says nothing', async () => {
    await listen({ connections: 32, places: 8, atOnce: 4 });
    const log = await open(LOG);
    const idle = await Promise.all(Array.from({ length: 64 }, () => open(OTHER)));
    await until(() => idle.filter(({ destroyed }) => destroyed).length === 33);
    const answered = statusOf(log);
    log.write(whole('log'));
    expect(await answered).toBe('200');
    expect(await post('log')).toMatchObject({ status: 200 });
  });

  it('works next for who has least under way, however many others wait', async () => {
    await listen({ connections: 128, places: 8, atOnce: 2 }, (body) => body.startsWith('other'));
    const others = await Promise.all(
      Array.from({ length: 30 }, (_, i) => open(OTHER, whole(`other ${String(i)}`))),
    );
    const answers = others.map(statusOf);
    await until(() => asked.length === 2);
    const log = post('log');
    await sleep(100);
    expect(asked).not.toContain('log');
    // One place after the other, until its request is here: on a busy machine it may be read late.
    const first = setInterval(() => release.shift()?.(), 200);
    expect(await log).toMatchObject({ status: 200 });
    clearInterval(first);
    // Of those who came before it ten are worked on or wait.
    expect(asked.indexOf('log')).toBeLessThan(6);
    // Whose body is here is told so, not cut.
    const timer = setInterval(() => release.shift()?.(), 5);
    const statuses = await Promise.all(answers);
    clearInterval(timer);
    expect(new Set(statuses)).toEqual(new Set(['200', '503']));
    expect(statuses.filter((status) => status === '200').length).toBeGreaterThanOrEqual(9);
  });

  it('keeps waiting requests when further ones of as many come', async () => {
    await listen({ connections: 128, places: 4, atOnce: 1 }, () => true);
    const first = await open(LOG, whole('0'));
    await until(() => asked.length === 1);
    const waiting = await Promise.all([1, 2, 3, 4].map((i) => open(LOG, whole(String(i)))));
    const answers = [first, ...waiting].map(statusOf);
    await sleep(500);
    expect(await post('5')).toMatchObject({ status: 503 });
    const timer = setInterval(() => release.shift()?.(), 5);
    expect(await Promise.all(answers)).toEqual(['200', '200', '200', '200', '200']);
    clearInterval(timer);
  });
});
