/** Consistency proofs against the definitions, for every pair of sizes and over tiles. */
import { describe, expect, it } from '@jest/globals';
import { consistencyProof, isConsistent } from '../../src/audit/consistency.ts';
import { MemoryLog } from './memory-log.ts';

const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'));
const log = new MemoryLog();
log.grow(700);
const at = (size: number) => ({ size, root: log.root(size) });

describe('a consistency proof', () => {
  it('verifies for every pair of sizes to 40, and for no other pair of roots', async () => {
    for (let to = 1; to <= 40; to += 1) {
      for (let from = 0; from <= to; from += 1) {
        const proof = await consistencyProof(log, from, to);
        expect(isConsistent(at(from), at(to), proof)).toBe(true);
        const other = { size: to, root: log.root(to - 1) };
        if (from > 0) expect(isConsistent(at(from), other, proof)).toBe(false);
        if (from > 1 && from < to) {
          expect(isConsistent({ size: from, root: log.root(from - 1) }, at(to), proof)).toBe(false);
        }
      }
    }
  });

  it.each([
    [255, 256],
    [256, 257],
    [1, 700],
    [511, 513],
    [256, 700],
    [300, 699],
  ])('crosses tiles: from %d to %d', async (from, to) => {
    const proof = await consistencyProof(log, from, to);
    expect(isConsistent(at(from), at(to), proof)).toBe(true);
    for (const [index, hash] of proof.entries()) {
      const damaged = proof.with(
        index,
        Uint8Array.from(hash, (byte, i) => (i === 5 ? byte ^ 1 : byte)),
      );
      expect(isConsistent(at(from), at(to), damaged)).toBe(false);
      expect(isConsistent(at(from), at(to), proof.toSpliced(index, 1))).toBe(false);
      expect(isConsistent(at(from), at(to), proof.toSpliced(index, 0, hash))).toBe(false);
    }
    expect(isConsistent(at(to), at(from), proof)).toBe(false);
  });

  it('is that of the published example of seven leaves (RFC 6962 section 2.1.3, certificate-transparency)', async () => {
    // Leaves and roots of the reference implementation's tests.
    const inputs = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657'];
    const published = new MemoryLog();
    const { leafOf } = await import('./memory-log.ts');
    published.leaves.push(...inputs.map((input) => leafOf(hex(input))));
    const root7 = 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c';
    expect(Buffer.from(published.root()).toString('hex')).toBe(root7);
    const proof = await consistencyProof(published, 4, 7);
    expect(
      isConsistent({ size: 4, root: published.root(4) }, { size: 7, root: hex(root7) }, proof),
    ).toBe(true);
  });
});
