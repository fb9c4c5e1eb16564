/** Which published checkpoints a database has to go on from. */
import { describe, expect, it } from '@jest/globals';
import { parseNote } from '../../src/audit/notes.ts';
import { formatVkey } from '../../src/audit/tree/vkey.ts';
import { counts } from '../../src/main/log-outside.ts';
import { makePair, noteOf, ORIGIN, signersOf } from '../audit/synthetic.ts';
import type { Signer, SignerPair } from '../audit/synthetic.ts';

const [known, later] = [makePair(), makePair()];
const vkeysOf = (pair: SignerPair) => signersOf(pair).map(({ vkey }) => formatVkey(vkey));

async function counted(signers: readonly Signer[], origin = ORIGIN) {
  const warnings: string[] = [];
  const note = parseNote(await noteOf(7, new Uint8Array(32), signers, origin));
  if (note === null) throw new Error('no note');
  const log = { warn: (_: unknown, message?: string) => void warnings.push(message ?? '') };
  const seen = { place: '/published/checkpoint', note };
  const result = counts(seen, ORIGIN, vkeysOf(known), log);
  return { result, warnings: warnings.join() };
}

describe('a published checkpoint', () => {
  it('counts where keys of this log have signed it', async () => {
    expect(await counted(signersOf(known))).toEqual({ result: true, warnings: '' });
  });

  it('counts where it is of this name by keys that only a later state of the database knows', async () => {
    const { result, warnings } = await counted(signersOf(later));
    expect(result).toBe(true);
    expect(warnings).toContain('does not know');
  });

  it('is left aside where it is of another log, or a signature is forged', async () => {
    expect((await counted(signersOf(known), 'log.example/other')).result).toBe(false);
    const forged = { ...later.ed25519, vkey: known.ed25519.vkey };
    const { result, warnings } = await counted([forged, known.mlDsa44]);
    expect(result).toBe(false);
    expect(warnings).toContain('left aside');
    expect((await counted([known.mlDsa44])).result).toBe(false);
  });
});
