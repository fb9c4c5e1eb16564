/** A log's pair of keys in memory, to sign checkpoints of trees in memory with. */
import { generateKeyPairSync, sign } from 'node:crypto';
import { formatCheckpoint } from '../../src/audit/tree/checkpoint.ts';
import { formatNote } from '../../src/audit/tree/note.ts';
import { signText } from '../../src/audit/tree/signatures.ts';
import { SIGNATURE_TYPE, formatVkey, makeVkey } from '../../src/audit/tree/vkey.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import type { MemoryLog } from './memory-log.ts';

export interface TestSigner {
  readonly origin: string;
  readonly vkeys: readonly string[];
  sign(size: number, root: Uint8Array): Promise<string>;
  /** Signs the head of a log in memory, and has it say so. */
  publish(log: MemoryLog, size?: number): Promise<string>;
}

export const SECONDS = 1_790_000_000;

export async function testSigner(origin = 'log.example/test'): Promise<TestSigner> {
  const ed25519 = generateKeyPairSync('ed25519');
  const { x = '' } = ed25519.publicKey.export({ format: 'jwk' });
  const publicKey = Uint8Array.from(Buffer.from(x, 'base64url'));
  const { signatures } = nativeEngine;
  const pq = await signatures.generate('ML-DSA-44');
  const mlDsa = signatures.importSeed('ML-DSA-44', pq.seed);
  const classical = makeVkey(origin, SIGNATURE_TYPE.ed25519, publicKey);
  const cosigning = makeVkey(origin, SIGNATURE_TYPE.mlDsa44Cosignature, pq.publicKey);
  const signNote = async (size: number, root: Uint8Array) => {
    const text = formatCheckpoint({ origin, size, root });
    const signatures = [
      await signText(text, classical, 0, (message) => sign(null, message, ed25519.privateKey)),
      await signText(text, cosigning, SECONDS, (message) => mlDsa.sign(message, new Uint8Array(0))),
    ];
    return formatNote({ text, signatures });
  };
  return {
    origin,
    vkeys: [formatVkey(classical), formatVkey(cosigning)],
    sign: signNote,
    publish: async (log, size = log.leaves.length) => {
      log.note = await signNote(size, log.root(size));
      return log.note;
    },
  };
}
