/** A log's pair of keys in memory, to sign checkpoints of trees in memory with. */
import { generateKeyPairSync, sign } from 'node:crypto';
import {
  checkpointText,
  cosignedBytes,
  keyIdOf,
  signatureLine,
  timedSignature,
  vkeyOfType,
} from '../../src/audit/checkpoint-text.ts';
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
  const signNote = async (size: number, root: Uint8Array) => {
    const text = checkpointText(origin, size, root);
    const classical = sign(null, Buffer.from(text), ed25519.privateKey);
    const message = cosignedBytes(origin, SECONDS, { origin, size, root });
    const cosignature = timedSignature(SECONDS, await mlDsa.sign(message, new Uint8Array(0)));
    const lines = [
      signatureLine(origin, keyIdOf(origin, 0x01, publicKey), classical),
      signatureLine(origin, keyIdOf(origin, 0x06, pq.publicKey), cosignature),
    ];
    return `${text}\n${lines.join('')}`;
  };
  return {
    origin,
    vkeys: [vkeyOfType(origin, 0x01, publicKey), vkeyOfType(origin, 0x06, pq.publicKey)],
    sign: signNote,
    publish: async (log, size = log.leaves.length) => {
      log.note = await signNote(size, log.root(size));
      return log.note;
    },
  };
}
