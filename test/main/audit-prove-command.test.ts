/** What a service answers is checked, also which entry it is of. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Edge } from '../../src/audit/tree/edge.ts';
import { inclusionProof } from '../../src/audit/tree/proofs.ts';
import { formatTlogProof } from '../../src/audit/tree/tlog-proof.ts';
import type { AuditLogClient } from '../../src/client/audit-log.ts';
import { auditProveCommand } from '../../src/main/audit-prove-command.ts';
import { Lanes, makePair, noteOf, signersOf } from '../audit/synthetic.ts';
import { trustFile } from '../audit/synthetic-log.ts';

const root = mkdtempSync(join(tmpdir(), 'audit-prove-command-'));
const trust = join(root, 'trust');
const first = makePair();
const lanes = new Lanes();
const placed = Array.from({ length: 5 }, () => lanes.place({ lane: 3, operation: 'unwrap' }, 0));
const leaves = placed.map(({ leaf }) => leaf);
let proofs: readonly string[];

beforeAll(async () => {
  writeFileSync(trust, trustFile({ first }));
  const { edge, tiles } = Edge.EMPTY.grow(leaves);
  const checkpoint = await noteOf(leaves.length, edge.root(), signersOf(first));
  proofs = await Promise.all(
    leaves.map(async (_, index) => {
      const read = () => Promise.resolve(tiles[0]?.hashes ?? null);
      const hashes = await inclusionProof(index, leaves.length, read);
      return formatTlogProof({ index, hashes, checkpoint, extra: null });
    }),
  );
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

const bodyOf = (at: number): string => Buffer.from(placed[at]?.body ?? []).toString('base64');

/** Of a service that answers with this proof and this body, whatever it is asked for. */
async function prove(id: string, proof: string, body: string, ...more: string[]) {
  const [printed, complained]: [string[], string[]] = [[], []];
  const log = {
    proof: () => Promise.resolve(proof),
    entry: () => Promise.resolve({ body }),
  } as unknown as AuditLogClient;
  const code = await auditProveCommand(
    [id, '--trust', trust, ...more],
    { print: (line) => printed.push(line), complain: (line) => complained.push(line) },
    (_, work) => work(log),
  );
  return { code, printed: printed.join('\n'), complained: complained.join('\n') };
}

describe('twofold audit prove', () => {
  it('shows an entry by its bytes, its proof and its place', async () => {
    const { code, printed } = await prove('3-4', proofs[3] ?? '', bodyOf(3));
    expect(printed).toContain('3-4 is entry 3 of log.example/audit');
    expect(code).toBe(0);
  });

  it('keeps the proof where nothing is yet, and has shown it also where that fails', async () => {
    const out = join(root, 'proof');
    const proof = proofs[3] ?? '';
    const proveOut = () => prove('3-4', proof, bodyOf(3), '--out', out);
    expect(await proveOut()).toMatchObject({ code: 0, complained: '' });
    expect(readFileSync(out, 'utf8')).toBe(proof);
    writeFileSync(out, 'another');
    const again = await proveOut();
    expect(again.printed).toContain('3-4 is entry 3 of log.example/audit');
    // Not 1, which says that it is not shown.
    expect(again.code).toBe(2);
    expect(again.complained).toMatch(/EEXIST.*\(file_failed\)/u);
    expect(readFileSync(out, 'utf8')).toBe('another');
  });

  it('shows nothing by the genuine bytes and proof of another entry', async () => {
    const { code, printed } = await prove('3-4', proofs[1] ?? '', bodyOf(1));
    expect(printed).toContain('3-4 IS NOT SHOWN');
    expect(printed).toContain('another entry');
    expect(code).toBe(1);
  });

  it.each([
    ['bytes that are no entry', () => [proofs[3] ?? '', 'AA=='] as const],
    ['no bytes', () => [proofs[3] ?? '', ''] as const],
    ['the bytes without their last', () => [proofs[3] ?? '', bodyOf(3).slice(0, -4)] as const],
    ['the proof of another', () => [proofs[2] ?? '', bodyOf(3)] as const],
  ])('shows nothing by %s', async (_, answers) => {
    const { code, printed } = await prove('3-4', ...answers());
    expect(printed).toContain('IS NOT SHOWN');
    expect(code).toBe(1);
  });
});
