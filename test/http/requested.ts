/** A certification request of a key, and everything that must hold of it. */
import { expect } from '@jest/globals';
import { parseRequest } from '../../src/crypto/csr.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { decodePem } from '../../src/crypto/pem.ts';
import type { SignatureSuite, Suite } from '../../src/crypto/suite.ts';
import type { Instance } from '../keyring/world.ts';
import type { Service } from './service.ts';

const NO_CONTEXT = new Uint8Array(0);

/** Whether X.509 has an algorithm for it. */
export const isRequestable = (suite: Suite): suite is SignatureSuite =>
  suite.kind === 'signature' && (suite.encoding.signature?.x509 ?? null) !== null;

/** The request of the primary version holds its public key and is signed by it. */
export async function expectRequest(
  service: Pick<Service<Instance>, 'call'>,
  key: string,
  suite: SignatureSuite,
): Promise<void> {
  const asked = {
    subject: [{ C: 'FI' }, { O: 'Esimerkki' }, { CN: 'release' }],
    alternativeNames: [{ dns: 'a.example' }, { ip: '192.0.2.7' }],
  };
  const path = `/v1/keys/${key}`;
  const { status, json } = await service.call('user', 'POST', `${path}/csr`, { json: asked });
  expect(status).toBe(200);
  const { primary } = (await service.call('user', 'GET', path)).json;
  expect(json).toMatchObject({ key, keyVersion: primary, suite: suite.id });
  const der = decodePem('CERTIFICATE REQUEST', String(json['csr']), 'The request');
  const parsed = parseRequest(suite.encoding, der);
  const raw = await service.call('user', 'GET', `${path}/public-key?format=raw`);
  expect(Buffer.from(parsed.publicKey).toString('base64')).toBe(raw.json['raw']);
  const input = { message: parsed.info };
  const { signature, publicKey } = parsed;
  expect(await suite.signer.verify(nativeEngine, publicKey, input, NO_CONTEXT, signature)).toBe(
    true,
  );
}
