/** A certificate that is replaced under open and new connections. */
import { once } from 'node:events';
import { Agent, request } from 'node:https';
import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import { makeCertificate } from '../config/certificate.ts';
import { eventually } from '../store/eventually.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const first = makeCertificate();
const second = makeCertificate();
const pair = ({ certificate, key }: typeof first) => ({ cert: certificate, key });
const trusted = [first.certificate, second.certificate];

let service: Service;
const agents: Agent[] = [];
beforeAll(async () => {
  service = await openService({
    options: { http: { host: '127.0.0.1', port: 0, tls: pair(first) } },
  });
});
afterEach(() => service.server.setTls('http', pair(first)));
afterAll(async () => {
  for (const agent of agents) agent.destroy();
  await service.stop();
});

const ask = async (agent: Agent | false, ca: string[] = trusted): Promise<number> => {
  const { port } = service;
  const sent = request({ host: '127.0.0.1', port, path: '/healthz', ca, agent }).end();
  const [response] = (await once(sent, 'response')) as [
    { readonly statusCode?: number; resume: () => void },
  ];
  response.resume();
  return response.statusCode ?? 0;
};

/** A connection; its ticket has come, unless it was opened by one. */
async function open(options: { readonly [name: string]: unknown } = {}): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: service.port, ca: trusted, ...options });
  const ticket = 'session' in options ? undefined : once(socket, 'session');
  // It comes with the first data, and nothing is read unless somebody reads.
  socket.resume().write('GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n');
  await Promise.all([once(socket, 'secureConnect'), ticket]);
  return socket;
}

it('is served to new connections alone; open ones go on, and no request fails', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 2 });
  agents.push(agent);
  const failures: unknown[] = [];
  let [done, stopped] = [0, false];
  const callers = [agent, agent, false, false, false].map(async (by) => {
    while (!stopped) {
      const status = await ask(by as Agent | false).catch((error: unknown) => error);
      if (status === 200) done += 1;
      else failures.push(status);
    }
  });
  for (let n = 0; n < 200; n += 1) {
    const { done: before } = { done };
    service.server.setTls('http', pair(n % 2 === 0 ? second : first));
    if (n % 20 === 0) await eventually(async () => done > before + 5);
  }
  service.server.setTls('http', pair(second));
  stopped = true;
  await Promise.all(callers);
  expect(failures).toEqual([]);
  expect(await ask(false, [second.certificate])).toBe(200);
  await expect(ask(false, [first.certificate])).rejects.toThrow();
}, 60_000);

it('leaves no session of the former one to resume, and keeps what the context demands', async () => {
  const before = await open();
  const session = before.getSession();
  before.destroy();
  const resumed = await open({ session });
  expect(resumed.isSessionReused()).toBe(true);
  resumed.destroy();
  service.server.setTls('http', pair(second));
  const after = await open({ session, ecdhCurve: 'X25519MLKEM768' });
  expect([after.isSessionReused(), after.getProtocol()]).toEqual([false, 'TLSv1.3']);
  after.destroy();
  await expect(open({ maxVersion: 'TLSv1.2' })).rejects.toThrow();
});

it('that is no identity changes nothing', async () => {
  const mixed = { cert: second.certificate, key: first.key };
  expect(() => service.server.setTls('http', mixed)).toThrow();
  expect(() => service.server.setTls('http', { cert: 'no PEM', key: first.key })).toThrow();
  expect(await ask(false, [first.certificate])).toBe(200);
  expect(() => service.server.setTls('admin', pair(first))).toThrow(TypeError);
});
