/** Ciphertexts that the service did not make. */
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { sealEnvelope } from '../../src/crypto/wrap.ts';
import { NO_BINDING, secret } from './world.ts';
import type { Instance } from './world.ts';

/** What someone who holds only the public key makes. */
export async function wrapOffline(world: Instance, key: string, text: string): Promise<Uint8Array> {
  const { key: row, versions } = await world.keyring.read.get(world.grant('keys.read', key));
  const version = versions.at(-1);
  const suite = findSuite('MLKEM768-P256');
  if (suite.kind !== 'kem' || version?.state !== 'active') throw new TypeError('not a KEM key');
  const { pq, classical } = version.material;
  const publicKey = suite.kem.joinPublicKey(nativeEngine, {
    pq: pq?.public ?? new Uint8Array(),
    classical: classical?.public ?? new Uint8Array(),
  });
  return sealEnvelope(nativeEngine, {
    suite,
    keyId: row.id,
    keyVersion: version.version,
    publicKey,
    context: NO_BINDING,
    plaintext: secret(text),
  });
}
