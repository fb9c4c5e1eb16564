import { afterAll, expect, it, jest } from '@jest/globals';

import { createEngine } from '../../src/crypto/combined-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { hex } from './software-halves.ts';
import type { SlhDsaParameterSet } from '../../src/crypto/engine.ts';

jest.setTimeout(600_000);

const SMALL = Object.keys(SIGNATURE_LENGTHS).filter((set) =>
  /SLH-DSA-.*s$/.test(set),
) as SlhDsaParameterSet[];
const MESSAGE = hex('00ff');
const CONTEXT = hex('01');

const engine = createEngine();
afterAll(() => engine.close());

it.each(SMALL)('%s: makes, signs with and verifies by keys of the seed', async (set) => {
  const { signatures } = engine;
  const { seed, publicKey } = await signatures.generate(set);
  const signature = await signatures.importSeed(set, seed).sign(MESSAGE, CONTEXT);
  for (const by of [signatures, portableEngine.signatures]) {
    const valid = (message: Uint8Array, context: Uint8Array) =>
      by.verify(set, publicKey, message, signature, context);
    expect(await valid(MESSAGE, CONTEXT)).toBe(true);
    expect(await valid(CONTEXT, CONTEXT)).toBe(false);
    expect(await valid(MESSAGE, hex(''))).toBe(false);
  }
});

it.each(SMALL)(
  '%s: the native implementation verifies what the portable one signs',
  async (set) => {
    const { seed, publicKey } = await engine.signatures.generate(set);
    const signature = await portableEngine.signatures.importSeed(set, seed).sign(MESSAGE, CONTEXT);
    const verified = engine.signatures.verify(set, publicKey, MESSAGE, signature, CONTEXT);
    expect(await verified).toBe(true);
    expect(engine.implementationOf(set)).toBe('native');
  },
);
