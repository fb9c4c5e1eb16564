/** A signer of backups with keys of its own, in software. */
import { generateKeyPairSync, sign } from 'node:crypto';

import { SIGNATURE_TYPE, makeVkey } from '../../src/audit/tree/vkey.ts';
import type { BackupSigner } from '../../src/backup/manifest.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';

export async function softwareSigner(
  mac: BackupSigner['mac'],
  name = 'log.example/test',
): Promise<BackupSigner> {
  const pair = generateKeyPairSync('ed25519');
  const { x = '' } = pair.publicKey.export({ format: 'jwk' });
  const ed25519 = makeVkey(name, SIGNATURE_TYPE.ed25519, Buffer.from(x, 'base64url'));
  const { seed, publicKey } = await nativeEngine.signatures.generate('ML-DSA-44');
  const key = nativeEngine.signatures.importSeed('ML-DSA-44', seed);
  const mlDsa44 = makeVkey(name, SIGNATURE_TYPE.mlDsa44Cosignature, publicKey);
  return {
    mac,
    sign: async (message) => ({
      ed25519: { vkey: ed25519, signature: sign(null, message, pair.privateKey) },
      mlDsa44: { vkey: mlDsa44, signature: await key.sign(message, new Uint8Array(0)) },
    }),
  };
}
