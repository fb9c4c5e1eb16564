/**
 * What the service computes of a decapsulation besides its halves, which are there already: the
 * combiner or derivation with the key schedule, and these with splitting, checks and promises.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto';

import { utf8 } from '../src/crypto/bytes.ts';
import { ownCombiner, standardCombiner } from '../src/crypto/combiner.ts';
import { extractAndExpand } from '../src/crypto/dhkem.ts';
import { keySchedule } from '../src/crypto/hpke.ts';
import { SecretBytes } from '../src/crypto/secret.ts';
import { isHybridKem } from '../src/crypto/suite.ts';
import { median, slice, SLICES } from './slices.ts';
import type { Engine } from '../src/crypto/engine.ts';
import type { KemSuite, PublicHalves } from '../src/crypto/suite.ts';

const NOTHING = new Uint8Array(0);

/** Microseconds. */
export interface HostPart {
  readonly suite: string;
  readonly derivation: number;
  readonly whole: number;
}

/** @param engine makes what is decapsulated; no call of it is timed */
export async function measureHost(engine: Engine, suite: KemSuite): Promise<HostPart> {
  const { seed, publicKey: pq } =
    suite.pq === null ? { seed: null, publicKey: NOTHING } : await engine.mlKem.generate(suite.pq);
  seed?.wipe();
  const classical = classicalKey(suite);
  const publicKey = suite.kem.joinPublicKey(engine, { pq, classical });
  const { encapsulation } = await suite.kem.encapsulate(engine, publicKey);
  const [pqSecret, other] = [randomBytes(32), randomBytes(secretLength(suite))];
  const halves = {
    pq: () => Promise.resolve(SecretBytes.copyOf(pqSecret)),
    classical: () => Promise.resolve(SecretBytes.copyOf(other)),
  };
  const schedule = scheduling(suite);
  const whole = async () => {
    schedule(await suite.kem.decapsulate(encapsulation, publicKey, halves));
  };
  const derive = derivationOf(suite, {
    publicKey: suite.kem.splitPublicKey(publicKey),
    encapsulation,
    secrets: { pq: SecretBytes.copyOf(pqSecret), classical: SecretBytes.copyOf(other) },
  });
  const times: { readonly derivation: number; readonly whole: number }[] = [];
  for (let n = 0; n < SLICES; n += 1) {
    const derivation = await slice(() => {
      schedule(derive());
    });
    times.push({ derivation, whole: await slice(whole) });
  }
  return {
    suite: suite.id,
    derivation: median(times.map((each) => each.derivation)),
    whole: median(times.map((each) => each.whole)),
  };
}

/** The key schedule of a secret, which it wipes, up to what sealing and opening read. */
function scheduling({ hpke }: KemSuite): (secret: SecretBytes) => void {
  const info = randomBytes(70);
  const psk = { secret: SecretBytes.own(randomBytes(32)), id: randomBytes(20) };
  return (secret) => {
    const schedule = keySchedule(hpke, secret, info, psk);
    if (schedule.key.length === 0 || schedule.baseNonce.length === 0) throw new Error('no key');
    schedule.wipe();
    secret.wipe();
  };
}

interface Given {
  readonly publicKey: PublicHalves;
  readonly encapsulation: Uint8Array;
  readonly secrets: { readonly pq: SecretBytes; readonly classical: SecretBytes };
}

/** The suite's combiner, or derivation of one half, as its row puts it together; a copy where there is none. */
function derivationOf(suite: KemSuite, { publicKey, encapsulation, secrets }: Given) {
  const { schedule } = suite.hpke;
  if (isHybridKem(suite)) {
    const combine =
      suite.standard.status === 'own' ? ownCombiner(suite.id) : standardCombiner(utf8(suite.id));
    const end = encapsulation.length - publicKey.classical.length;
    const input = {
      pqSecret: secrets.pq,
      classicalSecret: secrets.classical,
      pqCiphertext: encapsulation.subarray(0, end),
      classicalCiphertext: encapsulation.subarray(end),
      pqPublicKey: publicKey.pq,
      classicalPublicKey: publicKey.classical,
    };
    return () => combine(input);
  }
  const { hsm } = suite;
  const isExchange = hsm?.kind === 'ec' || hsm?.kind === 'x25519';
  if (suite.pq === null && isExchange && schedule.stages === 2) {
    const derive = extractAndExpand(suite.hpke.kem, schedule);
    return () => derive(secrets.classical, encapsulation, publicKey.classical);
  }
  const secret = suite.pq === null ? secrets.classical : secrets.pq;
  return () => SecretBytes.copyOf(secret.reveal());
}

const secretLength = ({ hsm }: KemSuite): number =>
  hsm?.kind === 'ec' && hsm.curve === 'P-384' ? 48 : 32;

/** A public key of the classical half, made in software. */
function classicalKey({ hsm }: KemSuite): Uint8Array {
  if (hsm === null) return NOTHING;
  if (hsm.kind === 'x25519') {
    return generateKeyPairSync('x25519').publicKey.export({ format: 'raw-public' });
  }
  if (hsm.kind === 'ec') {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: hsm.curve });
    return publicKey.export({ format: 'raw-public', type: 'uncompressed' });
  }
  if (hsm.kind !== 'rsa') throw new Error('not a KEM half');
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: hsm.bits });
  return Uint8Array.from(publicKey.export({ format: 'der', type: 'pkcs1' }));
}
