/** What verifiers need who have the npm package jose and the published key sets, and nothing of ours. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { compactVerify, createLocalJWKSet, generalVerify } from 'jose';
import type { GeneralJWSInput, JSONWebKeySet } from 'jose';
import { SUITES } from '../../src/crypto/suites.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const PAYLOAD = 'a message';
const message = Buffer.from(PAYLOAD).toString('base64');
const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString();

/** Every algorithm of ours that jose 6 knows, and a suite of ours that has it. */
const ALGORITHMS: readonly (readonly [string, string])[] = [
  ['ES256', 'ECDSA-P256-SHA256'],
  ['ES384', 'ECDSA-P384-SHA384'],
  ['ES512', 'ECDSA-P521-SHA512'],
  ['Ed25519', 'Ed25519'],
  ['PS256', 'RSA-PSS-2048-SHA256'],
  ['PS384', 'RSA-PSS-3072-SHA384'],
  ['RS256', 'RSA-PKCS1-2048-SHA256'],
  ['ML-DSA-44', 'ML-DSA-44'],
  ['ML-DSA-65', 'ML-DSA-65'],
  ['ML-DSA-87', 'ML-DSA-87'],
];
/** As ALGORITHMS, with keys of 4096 bits, which take a token long; they differ in size and hash alone. */
const SLOW = ['PS512', 'RS512'];
/** Names of drafts (composites, SLH-DSA), which jose does not know. */
const UNKNOWN_TO_JOSE = /^(?:ML-DSA-\d\d-(?:ES|Ed)|SLH-DSA-)/u;

let service: Service;
const keySets = new Map<string, JSONWebKeySet>();

/** Without a token, as it is published. */
async function keySetOf(key: string): Promise<JSONWebKeySet> {
  const { status, text } = await service.call(null, 'GET', `/public/default/${key}/jwks.json`);
  expect(status).toBe(200);
  return JSON.parse(text) as JSONWebKeySet;
}

beforeAll(async () => {
  service = await openService();
  for (const [alg, suite] of ALGORITHMS) {
    const json = { name: alg.toLowerCase(), suite, publish: true };
    expect((await service.call('admin', 'POST', '/v1/admin/keys', { json })).status).toBe(201);
    keySets.set(alg, await keySetOf(alg.toLowerCase()));
  }
});
afterAll(() => service.stop());

it('names each JOSE algorithm of the table', () => {
  const ours = Object.values(SUITES).flatMap((suite) =>
    suite.kind === 'signature' && suite.encoding.signature !== null
      ? [suite.encoding.signature.jose]
      : [],
  );
  const known = ours.filter((alg) => alg !== null && !UNKNOWN_TO_JOSE.test(alg));
  expect(new Set(known)).toEqual(new Set([...ALGORITHMS.map(([alg]) => alg), ...SLOW]));
});

describe('a JWS', () => {
  it.each(ALGORITHMS)('of %s is verified by jose with the published keys alone', async (alg) => {
    const json = { message, format: 'jws' };
    const path = `/v1/keys/${alg.toLowerCase()}/sign`;
    const jws = String((await service.call('user', 'POST', path, { json })).json['jws']);
    const keys = createLocalJWKSet(keySets.get(alg) ?? { keys: [] });
    const verified = await compactVerify(jws, keys, { algorithms: [alg] });
    expect([textOf(verified.payload), verified.protectedHeader.alg]).toEqual([PAYLOAD, alg]);
    const [head = '', , signature = ''] = jws.split('.');
    const other = [head, Buffer.from('another').toString('base64url'), signature].join('.');
    await expect(compactVerify(other, keys)).rejects.toMatchObject({
      code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
    });
  });
});

describe('a JWS of parallel signatures', () => {
  const PAIR = ['ES256', 'ML-DSA-65'] as const;
  const signed = async (): Promise<GeneralJWSInput> => {
    const json = { keys: PAIR.map((alg) => ({ key: alg.toLowerCase() })), message };
    const answer = await service.call('user', 'POST', '/v1/sign-parallel', { json });
    expect(answer.status).toBe(200);
    return answer.json['jws'] as GeneralJWSInput;
  };

  it.each(PAIR)('is verified by jose of a verifier that knows %s alone', async (alg) => {
    const jws = await signed();
    const keys = createLocalJWKSet(keySets.get(alg) ?? { keys: [] });
    const verified = await generalVerify(jws, keys, { algorithms: [alg] });
    expect([textOf(verified.payload), verified.protectedHeader?.alg]).toEqual([PAYLOAD, alg]);
  });

  it.each(PAIR)('with a broken %s is refused to who asks for that', async (alg) => {
    const jws = await signed();
    const at = PAIR.indexOf(alg);
    const signatures = jws.signatures.map((each, index) => {
      if (index !== at) return each;
      const bytes = Buffer.from(each.signature, 'base64url');
      bytes[0] = (bytes[0] ?? 0) ^ 1;
      return { ...each, signature: bytes.toString('base64url') };
    });
    const check = (of: string) => {
      const keys = createLocalJWKSet(keySets.get(of) ?? { keys: [] });
      return generalVerify({ ...jws, signatures }, keys, { algorithms: [of] });
    };
    await expect(check(alg)).rejects.toMatchObject({
      code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
    });
    const [left] = PAIR.filter((each) => each !== alg);
    expect(textOf((await check(left ?? '')).payload)).toBe(PAYLOAD);
  });
});
