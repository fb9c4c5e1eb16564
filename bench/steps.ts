/**
 * What the steps of one hybrid unwrap cost, each alone and many times, in microseconds of processor time
 * of all threads: JSON on stdout. What the service takes beyond their sum is HTTP, authentication,
 * policy, strict parsing, promises between the layers, and the collector's work for all of it.
 */
import { createECDH, randomBytes } from 'node:crypto';

import { encodeEntry, encodeFacts, leafHash } from '../src/audit/entry.ts';
import { utf8 } from '../src/crypto/bytes.ts';
import { standardCombiner } from '../src/crypto/combiner.ts';
import { encodeEnvelope, parseEnvelope } from '../src/crypto/envelope.ts';
import { keySchedule, openOnce, sealOnce } from '../src/crypto/hpke.ts';
import { nativeEngine } from '../src/crypto/native-engine.ts';
import { SecretBytes } from '../src/crypto/secret.ts';
import { isHybridKem } from '../src/crypto/suite.ts';
import { findSuite } from '../src/crypto/suites.ts';
import { wrapInfo } from '../src/crypto/wrap.ts';
import { openToken } from './token-connection.ts';

const [dataDir = '.twofold'] = process.argv.slice(2);
const CALLS = 20_000;
const IN_FLIGHT = 16;

const suite = findSuite('MLKEM768-P256');
if (!isHybridKem(suite)) throw new Error('not a hybrid KEM');
const hsm = await openToken(dataDir);
const spec = { kind: 'ec', curve: 'P-256', use: 'derive' } as const;
const key = { id: 'steps', spec, material: await hsm.generate(spec, { custody: 'hsm-wrapped' }) };
const macSpec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
const macKey = {
  id: 'steps-mac',
  spec: macSpec,
  material: await hsm.generate(macSpec, { custody: 'hsm-wrapped' }),
};
const peer = createECDH('prime256v1').generateKeys();
const { seed, publicKey } = await nativeEngine.mlKem.generate(suite.pq);
const decapsulation = nativeEngine.mlKem.importSeed(suite.pq, seed);
const { ciphertext } = await nativeEngine.mlKem.encapsulate(suite.pq, publicKey);

const secret = (): SecretBytes => SecretBytes.own(randomBytes(32));
const [pqSecret, classicalSecret, psk] = [secret(), secret(), secret()];
const keyId = '00000000-0000-4000-8000-000000000000';
const header = { mode: 'psk', suite, keyId, keyVersion: 1 } as const;
const info = wrapInfo(header, {});
const preShared = { secret: psk, id: randomBytes(20) };
const context = keySchedule(suite.hpke, pqSecret, info, preShared);
const sealed = sealOnce(suite.hpke, context, classicalSecret);
const combine = standardCombiner(utf8(suite.id));
const encapsulation = randomBytes(suite.kem.lengths.encapsulation);
const envelope = encodeEnvelope({ ...header, encapsulation, ciphertext: sealed });
const facts = {
  at: new Date(),
  zone: 'local',
  instance: keyId,
  requestId: keyId,
  actor: {
    issuer: 'urn:x',
    subject: 'user',
    method: 'jwt',
    session: randomBytes(16),
    ...{ acr: null, amr: ['pwd'], roles: ['user'] },
  },
  ...{ tlsGroup: 'X25519MLKEM768', grantId: null, approvalId: null, engine: 'native' as const },
  ...{ origin: null, durationUs: 1234, loggedContext: {}, aadHmac: null },
  operation: 'unwrap',
  namespace: 'default',
  keyRef: 'hybrid',
  keyId,
  keyVersion: 1,
  suite: suite.number,
  outcome: 'ok',
  decision: { revision: randomBytes(16).toString('hex'), policies: ['role.user'] },
  source: '127.0.0.1',
  contextKeys: [],
  contextHmac: null,
  items: [],
  detail: {},
} as const;
const place = { lane: 2, n: 100_000, previous: randomBytes(32), epoch: 1 };

const steps: readonly (readonly [string, () => unknown])[] = [
  ['envelope, parsed strictly', () => parseEnvelope(envelope)],
  ['binding (header, hash of the context)', () => wrapInfo(header, {})],
  ['ECDH in the token, by way of a worker', () => hsm.ecdh(key, peer)],
  ['ML-KEM-768 decapsulation', () => decapsulation.decapsulate(ciphertext)],
  [
    'combiner (SHA3-256)',
    () =>
      combine({
        pqSecret,
        classicalSecret,
        pqCiphertext: ciphertext,
        classicalCiphertext: peer,
        pqPublicKey: publicKey,
        classicalPublicKey: peer,
      }).wipe(),
  ],
  ['HPKE key schedule (SHAKE256)', () => keySchedule(suite.hpke, pqSecret, info, preShared).wipe()],
  ['AES-256-GCM', () => openOnce(suite.hpke, context, sealed).wipe()],
  ['audit entry (CBOR, chain of hashes)', () => leafHash(encodeEntry(place, encodeFacts(facts)))],
  ['HMAC of an audit batch in the token', () => hsm.mac(macKey, info, { urgent: true })],
];

/** Several at once, so that threads have company as they have in the service. */
async function microseconds(call: () => unknown, calls: number): Promise<number> {
  let left = calls;
  const before = process.cpuUsage();
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      while (left-- > 0) await call();
    }),
  );
  const { user, system } = process.cpuUsage(before);
  return (user + system) / calls;
}

const costs: { readonly step: string; readonly microseconds: number }[] = [];
for (const [step, call] of steps) {
  await microseconds(call, CALLS / 4);
  costs.push({ step, microseconds: await microseconds(call, CALLS) });
}
await hsm.close();
process.stdout.write(JSON.stringify(costs));
