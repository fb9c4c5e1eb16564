import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Edge } from '../../../src/audit/tree/edge.ts';
import type { ReadTile } from '../../../src/audit/tree/edge.ts';
import { Frontier } from '../../../src/audit/tree/frontier.ts';
import { EMPTY_ROOT, leafHash } from '../../../src/audit/tree/hashes.ts';
import {
  consistencyProof,
  inclusionProof,
  inclusionTiles,
  treeRoot,
  verifyConsistency,
  verifyInclusion,
} from '../../../src/audit/tree/proofs.ts';
import { parseTilePath, tilePath, tilesOfGrowth } from '../../../src/audit/tree/tiles.ts';
import { naiveLeaf, naivePath, naiveProof, naiveRoot } from './naive.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

/** Inputs, roots and proofs of the tests of Certificate Transparency (merkle tree of 8 leaves). */
const INPUTS = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
].map(unhex);
const ROOTS = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];
const PATHS: readonly (readonly [index: number, size: number, path: readonly string[]])[] = [
  [
    0,
    8,
    [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  ],
  [
    5,
    8,
    [
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  ],
  [2, 3, ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125']],
  [
    1,
    5,
    [
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  ],
];
const CONSISTENCY: readonly (readonly [from: number, to: number, proof: readonly string[]])[] = [
  [1, 1, []],
  [
    1,
    8,
    [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  ],
  [
    6,
    8,
    [
      '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  ],
  [
    2,
    5,
    [
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  ],
];

const leavesOf = (count: number): Uint8Array[] =>
  Array.from({ length: count }, (_, at) => leafHash(new TextEncoder().encode(`entry ${at}`)));

const key = (level: number, index: number, width: number) => `${level}/${index}/${width}`;

/** Every tile that growing in these steps made, and a reader of them that serves no other. */
function grown(leaves: readonly Uint8Array[], steps: readonly number[]) {
  const store = new Map<string, Uint8Array>();
  let edge = Edge.EMPTY;
  let at = 0;
  for (const step of [...steps, leaves.length]) {
    const result = edge.grow(leaves.slice(at, at + step));
    for (const tile of result.tiles) {
      store.set(key(tile.level, tile.index, tile.width), tile.hashes);
    }
    at = Math.min(leaves.length, at + step);
    edge = result.edge;
  }
  const read: ReadTile = async (level, index, width) => {
    const exact = store.get(key(level, index, width)) ?? store.get(key(level, index, 256));
    return exact?.subarray(0, width * 32) ?? null;
  };
  return { edge, read, store };
}

const rootsMatch = (leaves: readonly Uint8Array[]) => {
  const frontier = new Frontier();
  for (const leaf of leaves) frontier.append(leaf);
  return hex(frontier.root());
};

describe('the reference values of Certificate Transparency', () => {
  const leaves = INPUTS.map(leafHash);
  const { read } = grown(leaves, [1, 1, 1, 1, 1, 1, 1]);

  it('has the empty root and the roots of one to eight leaves', async () => {
    expect(hex(EMPTY_ROOT)).toBe(
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    );
    expect(hex(new Frontier().root())).toBe(hex(EMPTY_ROOT));
    expect(hex(Edge.EMPTY.root())).toBe(hex(EMPTY_ROOT));
    for (const [at, root] of ROOTS.entries()) {
      expect(rootsMatch(leaves.slice(0, at + 1))).toBe(root);
      expect(hex(Edge.EMPTY.grow(leaves.slice(0, at + 1)).edge.root())).toBe(root);
      expect(hex(await treeRoot(at + 1, read))).toBe(root);
    }
  });

  it('makes and verifies the inclusion proofs', async () => {
    for (const [index, size, path] of PATHS) {
      const proof = await inclusionProof(index, size, read);
      expect(proof.map(hex)).toEqual(path);
      const claim = {
        index,
        size,
        leaf: leaves[index] ?? EMPTY_ROOT,
        root: unhex(ROOTS[size - 1] ?? ''),
      };
      expect(verifyInclusion(claim, path.map(unhex))).toBe(true);
    }
  });

  it('makes and verifies the consistency proofs', async () => {
    for (const [from, to, hashes] of CONSISTENCY) {
      expect((await consistencyProof(from, to, read)).map(hex)).toEqual(hashes);
      const [older, newer] = [from, to].map((size) => ({
        size,
        root: unhex(ROOTS[size - 1] ?? ''),
      }));
      if (older === undefined || newer === undefined) throw new Error('no sizes');
      expect(verifyConsistency(older, newer, hashes.map(unhex))).toBe(true);
    }
  });
});

const size = fc.oneof(fc.nat(20), fc.nat(700), fc.constantFrom(255, 256, 257, 511, 512, 513));
const ONE_TREE = leavesOf(700);

describe('held against the recursive definition', () => {
  it('has its roots, however the tree grew, and serialises', () => {
    fc.assert(
      fc.property(size, fc.array(fc.nat(300), { maxLength: 6 }), (n, steps) => {
        const leaves = ONE_TREE.slice(0, n);
        const { edge, store } = grown(leaves, steps);
        const expected = hex(naiveRoot(leaves));
        expect(hex(edge.root())).toBe(expected);
        expect(rootsMatch(leaves)).toBe(expected);
        for (const { level, index, width } of tilesOfGrowth(0, n)) {
          expect(store.has(key(level, index, width))).toBe(true);
        }
        const frontier = new Frontier();
        for (const leaf of leaves) frontier.append(leaf);
        const again = Frontier.parse(frontier.serialise());
        expect([again.size, hex(again.root())]).toEqual([n, expected]);
        again.append(naiveLeaf(Uint8Array.of(9)));
        expect(hex(again.root())).toBe(hex(naiveRoot([...leaves, naiveLeaf(Uint8Array.of(9))])));
      }),
      { numRuns: 60 },
    );
  });

  it('makes exactly the tiles of the growth', () => {
    fc.assert(
      fc.property(size, size, (a, b) => {
        const [from, to] = a < b ? [a, b] : [b, a];
        const before = Edge.EMPTY.grow(ONE_TREE.slice(0, from)).edge;
        const { tiles } = before.grow(ONE_TREE.slice(from, to));
        const ids = tiles.map(({ level, index, width }) => ({ level, index, width }));
        expect(ids).toEqual([...tilesOfGrowth(from, to)]);
      }),
      { numRuns: 60 },
    );
  });

  it('loads the edge from tiles', async () => {
    const { read } = grown(ONE_TREE, []);
    for (const n of [0, 1, 255, 256, 257, 512, 700]) {
      const steps = grown(ONE_TREE.slice(0, n), []);
      const edge = await Edge.load(n, steps.read);
      expect(hex(edge.root())).toBe(hex(naiveRoot(ONE_TREE.slice(0, n))));
      const { edge: after } = edge.grow(ONE_TREE.slice(n));
      expect(hex(after.root())).toBe(hex(naiveRoot(ONE_TREE)));
    }
    await expect(Edge.load(701, read)).rejects.toMatchObject({ code: 'integrity_failed' });
  });

  it('proves inclusion and consistency, and refuses every proof that was touched', async () => {
    const { read } = grown(
      ONE_TREE,
      Array.from({ length: 700 }, () => 1),
    );
    await fc.assert(
      fc.asyncProperty(size, fc.nat(), fc.nat(), fc.nat(), async (n, pick, flip, where) => {
        fc.pre(n > 0);
        const leaves = ONE_TREE.slice(0, n);
        const [index, from] = [pick % n, pick % (n + 1)];
        const root = naiveRoot(leaves);
        const asked = new Set<string>();
        const path = await inclusionProof(index, n, (...tile) => {
          asked.add(tile.join());
          return read(...tile);
        });
        const told = inclusionTiles(index, n).map(({ level, index: at, width }) =>
          [level, at, width].join(),
        );
        expect(told.toSorted()).toEqual([...asked].sort());
        expect(path.map(hex)).toEqual(naivePath(index, leaves).map(hex));
        const claim = { index, leaf: ONE_TREE[index] ?? root, size: n, root };
        expect(verifyInclusion(claim, path)).toBe(true);
        expect(verifyInclusion({ ...claim, root: EMPTY_ROOT }, path)).toBe(false);
        expect(verifyInclusion(claim, [...path, root])).toBe(false);
        expect(verifyInclusion({ ...claim, leaf: EMPTY_ROOT }, path)).toBe(false);
        const touched = path.map((hash) => Uint8Array.from(hash));
        const victim = touched[where % Math.max(1, touched.length)];
        if (victim !== undefined) {
          victim[flip % 32] = (victim[flip % 32] ?? 0) ^ (1 << (flip % 8));
          expect(verifyInclusion(claim, touched)).toBe(false);
          expect(verifyInclusion(claim, path.slice(1))).toBe(false);
        }
        const older = { size: from, root: naiveRoot(leaves.slice(0, from)) };
        const newer = { size: n, root };
        const proof = await consistencyProof(from, n, read);
        const expected = from === 0 ? [] : naiveProof(from, leaves);
        expect(proof.map(hex)).toEqual(expected.map(hex));
        expect(verifyConsistency(older, newer, proof)).toBe(true);
        expect(verifyConsistency({ ...older, root: naiveLeaf(root) }, newer, proof)).toBe(false);
        expect(verifyConsistency(older, newer, [...proof, root])).toBe(false);
      }),
      { numRuns: 150 },
    );
  });

  it('never takes what it was not given for what it was', () => {
    expect(() => new Frontier(3, [EMPTY_ROOT])).toThrow(RangeError);
    expect(() => Frontier.parse(new Uint8Array(7))).toThrow();
    expect(() => Frontier.parse(new Uint8Array(40))).toThrow();
  });
});

describe('paths of tiles', () => {
  it.each([
    ['tile/0/x001/x234/067', { level: 0, index: 1_234_067, width: 256 }],
    ['tile/0/000', { level: 0, index: 0, width: 256 }],
    ['tile/1/999.p/112', { level: 1, index: 999, width: 112 }],
    ['tile/2/x001/000.p/1', { level: 2, index: 1000, width: 1 }],
    ['tile/entries/x123/x456/x789/012', { level: 'entries', index: 123_456_789_012, width: 256 }],
    ['tile/entries/001.p/255', { level: 'entries', index: 1, width: 255 }],
  ] as const)('writes and reads %s', (path, tile) => {
    expect(tilePath(tile)).toBe(path);
    expect(parseTilePath(path)).toEqual(tile);
  });

  it.each([
    'tile/0/0',
    'tile/00/000',
    'tile/01/000',
    'tile/7/000',
    'tile/64/000',
    '/tile/0/000',
    'tile/0/000/',
    'tile/0/x000/001',
    'tile/0/001/002',
    'tile/0/x001',
    'tile/0/000.p/0',
    'tile/0/000.p/01',
    'tile/0/000.p/256',
    'tile/0/000.p/',
    'tile/0/000.p',
    'tile/entries',
    'tile/data/000',
    'tile/0/x999/x999/x999/x999/x999/999',
    'tile/0/000\n',
    'tile/0/٠٠٠',
  ])('refuses %j', (path) => {
    expect(() => parseTilePath(path)).toThrow(expect.objectContaining({ code: 'invalid_value' }));
  });

  it('reads back what it writes', () => {
    fc.assert(
      fc.property(
        fc.nat(6),
        fc.nat(2 ** 20),
        fc.integer({ min: 1, max: 256 }),
        (level, at, width) => {
          const index = level < 4 ? at : at % 10;
          fc.pre(Number.isSafeInteger((index * 256 + width) * 256 ** level));
          expect(parseTilePath(tilePath({ level, index, width }))).toEqual({ level, index, width });
        },
      ),
    );
  });
});
