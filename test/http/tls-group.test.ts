/** The group that a connection agreed on is known to policies. */
import { get } from 'node:https';
import { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { BUILT_IN_POLICIES, SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { namedGroup } from '../../src/http/tls-group.ts';
import { makeCertificate } from '../config/certificate.ts';
import { EventReader } from './event-reader.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const NAMES = ['X25519MLKEM768', 'SecP256r1MLKEM768', 'x25519', 'secp256r1', 'secp384r1'];
/** Each group's policy tells that it was seen, by its name in the entry's decision. */
const TELLING = NAMES.map(
  (name) => `@id("by-${name.toLowerCase()}")
permit (principal, action == Action::"keys.list", resource)
when { context has tlsGroup && context.tlsGroup == "${name}" };`,
);

/** Streams of one group alone, and what takes them from another. */
const FOLLOWING = `@id("follows")
permit (principal, action in [Action::"events.read", Action::"audit.read"], resource)
when { context has tlsGroup && context.tlsGroup == "X25519MLKEM768" };`;
const FORBIDDING = `@id("forbids")
forbid (principal, action, resource)
when { context has tlsGroup && context.tlsGroup == "secp256r1" };`;

let service: Service;
let forbids = false;
beforeAll(async () => {
  const { certificate: cert, key } = makeCertificate();
  service = await openService({
    options: {
      http: { host: '127.0.0.1', port: 0, tls: { cert, key } },
      limits: { heartbeatMs: 20 },
    },
    replace: ({ epoch }) => {
      const by = (...more: readonly string[]) => {
        const policies = PolicySet.load(SCHEMA, [BUILT_IN_POLICIES, ...more].join('\n'));
        return PolicyAuthorizer.of({ epoch, policies });
      };
      const [usual, forbidding] = [by(...TELLING, FOLLOWING), by(FORBIDDING)];
      return { access: { in: () => Promise.resolve(forbids ? forbidding : usual) } };
    },
  });
});
afterAll(() => service.stop());

/** @returns status, and the session that the server gave */
async function list(ecdhCurve: string, session?: Buffer) {
  const done = Promise.withResolvers<{ status: number | undefined; given: Buffer | undefined }>();
  const authorization = `Bearer ${await service.token('none')}`;
  let given: Buffer | undefined;
  get(
    {
      host: '127.0.0.1',
      port: service.port,
      path: '/v1/keys',
      headers: { authorization },
      agent: false,
      rejectUnauthorized: false,
      ecdhCurve,
      ...(session === undefined ? {} : { session }),
    },
    (response) => {
      const { socket } = response;
      expect(socket instanceof TLSSocket && socket.isSessionReused()).toBe(session !== undefined);
      response.resume().on('end', () => done.resolve({ status: response.statusCode, given }));
    },
  )
    .on('socket', (socket) => socket.on('session', (bytes: Buffer) => (given = bytes)))
    .on('error', done.reject);
  return done.promise;
}

const decided = () => service.drafts.at(-1)?.decision?.policies;

describe('the group of a connection', () => {
  it.each([
    ['X25519MLKEM768', 'by-x25519mlkem768'],
    // Asked for by a retry.
    ['X25519:X25519MLKEM768', 'by-x25519mlkem768'],
    ['SecP256r1MLKEM768', 'by-secp256r1mlkem768'],
    ['X25519', 'by-x25519'],
    ['P-256', 'by-secp256r1'],
    ['P-384', 'by-secp384r1'],
  ])('of a client of %s permits as %s', async (ecdhCurve, policy) => {
    expect((await list(ecdhCurve)).status).toBe(200);
    expect(decided()).toEqual([policy]);
  });

  it('is that of its own handshake where it resumes a session of another group', async () => {
    const { given } = await list('X25519MLKEM768');
    expect(given).toBeDefined();
    expect((await list('P-256', given)).status).toBe(200);
    expect(decided()).toEqual(['by-secp256r1']);
  });
});

describe.each(['/v1/admin/events/stream', '/v1/audit/stream'])('a stream (%s)', (path) => {
  const follow = async (role: string, ecdhCurve: string) =>
    EventReader.open(
      `https://127.0.0.1:${String(service.port)}${path}`,
      await service.token(role),
      {},
      { agent: false, rejectUnauthorized: false, ecdhCurve },
    );

  const problems = ({ received }: EventReader) =>
    received.flatMap(({ event, json }) => (event === 'problem' ? [json['code']] : []));

  it('goes on where the group permitted it', async () => {
    const reader = await follow('none', 'X25519MLKEM768');
    expect(reader.response.statusCode).toBe(200);
    // Each asks again.
    await reader.until(({ beats }) => beats >= 5);
    expect(problems(reader)).toEqual([]);
    reader.close();
  });

  it('ends once a policy forbids its group', async () => {
    const reader = await follow('auditor', 'P-256');
    expect(reader.response.statusCode).toBe(200);
    forbids = true;
    try {
      await reader.until(() => problems(reader).length > 0);
      expect(problems(reader)).toEqual(['forbidden']);
    } finally {
      forbids = false;
      reader.close();
    }
  });
});

describe('a session’s bytes', () => {
  const bytes = (hex: string) => Buffer.from(hex, 'hex');

  it('have the group where they are DER, and else none', () => {
    expect(namedGroup(bytes('3006b304020211ec'))).toBe(0x11ec);
    expect(namedGroup(bytes('3009020101b304020211ec'))).toBe(0x11ec);
    for (const hex of [
      '',
      '30',
      '3006b304020211',
      '3106b304020211ec',
      '3080b304020211ec',
      '3006b304040211ec',
      '3006b303020211ec',
      '3007b30502030111ec',
      '3005b303020100',
      '30050403b30111',
      '3003020101',
      '3085ffffffffff',
    ]) {
      expect([hex, namedGroup(bytes(hex))]).toEqual([hex, null]);
    }
  });
});
