/** The group that a connection agreed on is known to policies. */
import { get } from 'node:https';
import { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { BUILT_IN_POLICIES, SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { namedGroup } from '../../src/http/tls-group.ts';
import { makeCertificate } from '../config/certificate.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const NAMES = ['X25519MLKEM768', 'SecP256r1MLKEM768', 'x25519', 'secp256r1', 'secp384r1'];
/** Each group's policy tells that it was seen, by its name in the entry's decision. */
const TELLING = NAMES.map(
  (name) => `@id("by-${name.toLowerCase()}")
permit (principal, action == Action::"keys.list", resource)
when { context has tlsGroup && context.tlsGroup == "${name}" };`,
);

let service: Service;
beforeAll(async () => {
  const { certificate: cert, key } = makeCertificate();
  service = await openService({
    options: { http: { host: '127.0.0.1', port: 0, tls: { cert, key } } },
    replace: ({ epoch }) => ({
      authorizer: PolicyAuthorizer.of({
        epoch,
        policies: PolicySet.load(SCHEMA, `${BUILT_IN_POLICIES}${TELLING.join('\n')}`),
      }),
    }),
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
