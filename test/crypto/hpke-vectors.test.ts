import { describe, expect, it } from '@jest/globals';

import { utf8 } from '../../src/crypto/bytes.ts';
import { writeJwk } from '../../src/crypto/jwk.ts';
import { exportSecret, hpkeSuite, keySchedule } from '../../src/crypto/hpke.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import {
  AEADS,
  derivePqSeed,
  DHKEMS,
  dhkemDecapsulate,
  ONE_STAGE_KDFS,
  TWO_STAGE_KDFS,
} from './hpke-recipes.ts';
import { expandSeed } from './seed-expansion.ts';
import { derivingCurve, hex, HYBRID_KEMS, KEM_ROWS, kemKey, toHex } from './software-halves.ts';
import type { Engine } from '../../src/crypto/engine.ts';
import type { HpkeAead, KemSuite } from '../../src/crypto/suite.ts';
import type { HpkePqVector } from '../vectors/published.ts';

const kemSuites = HYBRID_KEMS;

/** What a vector says of its KEM: the pair from ikmR, and the shared secret of enc. */
interface Recipient {
  readonly sk: string;
  readonly pk: string;
  readonly sharedSecret: Uint8Array;
}

async function pureRecipient(engine: Engine, vector: HpkePqVector, suite: KemSuite) {
  const seed = derivePqSeed(vector.kem_id, hex(vector.ikmR), 64);
  const key = kemKey(engine, suite, seed, new Uint8Array(0));
  const secret = await suite.kem.decapsulate(hex(vector.enc), key.publicKey, key.halves);
  return { sk: toHex(seed), pk: toHex(key.publicKey), sharedSecret: secret.reveal() };
}

async function hybridRecipient(engine: Engine, vector: HpkePqVector, suite: KemSuite) {
  const seed = derivePqSeed(vector.kem_id, hex(vector.ikmR), 32);
  const { pqSeed, scalar } = expandSeed(derivingCurve(suite), seed);
  const key = kemKey(engine, suite, pqSeed, scalar);
  const secret = await suite.kem.decapsulate(hex(vector.enc), key.publicKey, key.halves);
  return { sk: toHex(seed), pk: toHex(key.publicKey), sharedSecret: secret.reveal() };
}

function classicalRecipient(vector: HpkePqVector): Recipient {
  const group = DHKEMS[vector.kem_id];
  if (group === undefined) throw new Error('a vector of an unknown KEM');
  const scalar = hex(vector.skRm);
  return {
    sk: vector.skRm,
    pk: toHex(group.publicKey(scalar)),
    sharedSecret: dhkemDecapsulate(vector.kem_id, scalar, hex(vector.enc)),
  };
}

function recipientOf(engine: Engine, vector: HpkePqVector): Recipient | Promise<Recipient> {
  const suite = KEM_ROWS.find((row) => row.hpke.kem === vector.kem_id && row.pq !== null);
  if (suite === undefined) return classicalRecipient(vector);
  return suite.hsm === null
    ? pureRecipient(engine, vector, suite)
    : hybridRecipient(engine, vector, suite);
}

type Exporter = (context: Uint8Array, length: number) => Uint8Array;
interface Schedule {
  readonly key: Uint8Array;
  readonly baseNonce: Uint8Array;
  readonly exporterSecret: Uint8Array;
  readonly exported: Exporter;
}

/** Our key schedule, one stage or two by the vector's KDF. */
function scheduleOf(vector: HpkePqVector, sharedSecret: Uint8Array, aead: HpkeAead): Schedule {
  const schedule = ONE_STAGE_KDFS[vector.kdf_id] ?? TWO_STAGE_KDFS[vector.kdf_id];
  if (schedule === undefined) throw new Error('a vector of an unknown KDF');
  const suite = hpkeSuite(vector.kem_id, schedule, aead);
  const context = keySchedule(suite, SecretBytes.own(sharedSecret), hex(vector.info));
  return {
    key: context.key.reveal(),
    baseNonce: context.baseNonce,
    exporterSecret: context.exporterSecret.reveal(),
    exported: (exporterContext, length) =>
      exportSecret(suite, context, exporterContext, length).reveal(),
  };
}

function aeadOf(vector: HpkePqVector): HpkeAead {
  const aead = AEADS[vector.aead_id];
  if (aead === undefined) throw new Error('a vector of an unknown AEAD');
  return aead;
}

describe.each([nativeEngine, portableEngine])('HPKE-PQ vectors, $name engine', (engine) => {
  it('recipient key pair, shared secret, key schedule, encryptions and exports', async () => {
    const counts = { oneStage: 0, twoStages: 0 };
    for (const vector of vectorsOf('hpke-pq')) {
      const recipient = await recipientOf(engine, vector);
      expect(recipient).toMatchObject({ sk: vector.skRm, pk: vector.pkRm });
      expect(toHex(recipient.sharedSecret)).toBe(vector.shared_secret);

      const aead = aeadOf(vector);
      const schedule = scheduleOf(vector, recipient.sharedSecret, aead);
      counts[vector.kdf_id in ONE_STAGE_KDFS ? 'oneStage' : 'twoStages'] += 1;
      expect(toHex(schedule.key)).toBe(vector.key);
      expect(toHex(schedule.baseNonce)).toBe(vector.base_nonce);
      expect(toHex(schedule.exporterSecret)).toBe(vector.exporter_secret);

      const key = SecretBytes.copyOf(schedule.key);
      for (const { aad, ct, nonce, pt } of vector.encryptions) {
        const sealed = aead.seal(key, hex(nonce), hex(aad), SecretBytes.own(hex(pt)));
        expect(toHex(sealed)).toBe(ct);
      }
      expect(vector.encryptions[0]?.nonce).toBe(vector.base_nonce);
      for (const { exporter_context: context, L, exported_value: value } of vector.exports) {
        expect(toHex(schedule.exported(hex(context), L))).toBe(value);
      }
    }
    report(`HPKE-PQ ${engine.name}: ${JSON.stringify(counts)}`);
    if (hasPublishedFolder()) expect(counts).toEqual({ oneStage: 7, twoStages: 6 });
  });

  it('JWEs of HPKE-8, -9 and -10 open under the suites whose keys bear these names', async () => {
    for (const vector of vectorsOf('jose-hpke')) {
      const suite = kemSuites.find((row) => row.encoding.jwk?.alg === vector.alg) as KemSuite;
      const curve = derivingCurve(suite);
      const { pqSeed, scalar } = expandSeed(curve, hex(vector.priv));
      const key = kemKey(engine, suite, pqSeed, scalar);
      expect(writeJwk(suite.encoding, key.publicKey)).toEqual({
        kty: 'AKP',
        alg: vector.alg,
        pub: Buffer.from(vector.pub, 'hex').toString('base64url'),
      });
      const secret = await suite.kem.decapsulate(hex(vector.enc), key.publicKey, key.halves);
      const context = keySchedule(suite.hpke, secret, new Uint8Array(0));
      const [aad, ciphertext] = [utf8(vector.aad), hex(vector.ciphertext)];
      const opened = suite.hpke.cipher.open(context.key, context.baseNonce, aad, ciphertext);
      expect(Buffer.from(opened.reveal()).toString('utf8')).toContain('You can trust us');
    }
  });
});
