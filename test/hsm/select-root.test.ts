/**
 * Selecting a root again and again: what one worker tries on it must not mislead another. And what
 * whoever has the PIN puts in the place of a root is not taken up after a better one.
 */
import { afterEach, expect, it } from '@jest/globals';
import { CKA, CKM } from '../../src/hsm/cryptoki.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import type { RootOnToken, WrappedMaterial } from '../../src/hsm/port.ts';
import { rootId } from '../../src/hsm/roots.ts';
import { attributes, ROOT_LABEL } from '../../src/hsm/templates.ts';
import { withToken } from './import-keys.ts';
import { makeToken, ROOT, temporaryFolder, tokenIn } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

const EARLIER = { ...ROOT, generation: 0 };
const LATER = { ...ROOT, generation: 2 };
const SPEC = { kind: 'aes', bits: 256 } as const;
const WORKERS = 3;

let fixture: TokenFixture | undefined;
let hsm: PooledHsm | undefined;

afterEach(async () => {
  await hsm?.close();
  fixture?.remove();
  [hsm, fixture] = [undefined, undefined];
});

/** On a token with these, which the PIN alone has placed. */
async function opened(on: TokenFixture, workers: number, planted: readonly RootOnToken[] = []) {
  fixture = on;
  if (planted.length > 0) await withPlanted(on, planted);
  hsm = await on.open({ workers });
  return hsm;
}

const withPlanted = (on: TokenFixture, roots: readonly RootOnToken[]) =>
  withToken(on, (connection) =>
    connection.run((session, cryptoki) =>
      roots.map((root) =>
        cryptoki.C_GenerateKey(session, { mechanism: CKM.AES_KEY_GEN }, [
          ...attributes({ token: true, private: true, sensitive: true, extractable: true }),
          ...attributes({ valueLen: 32, wrap: true, unwrap: true }),
          { type: CKA.LABEL, value: `${ROOT_LABEL}${String(root.generation)}` },
          { type: CKA.ID, value: rootId(root) },
        ]),
      ),
    ),
  );

async function made(by: PooledHsm): Promise<WrappedMaterial> {
  const material = await by.generate(SPEC, { custody: 'hsm-wrapped' });
  if (material.custody !== 'hsm-wrapped') throw new TypeError('not wrapped');
  return material;
}

/** More keys at once than there are workers, so that each makes some. */
async function generationsMade(by: PooledHsm): Promise<readonly number[]> {
  const all = await Promise.all(Array.from({ length: 4 * WORKERS }, () => made(by)));
  return [...new Set(all.map(({ generation }) => generation))];
}

it('is found once by every worker while the first one attacks copies of it', async () => {
  const hsm = await opened(await makeToken(), 4);
  for (let round = 0; round < 40; round += 1) await hsm.useRoot(ROOT);
  expect(hsm.status().custody).toBe('non-extractable');
}, 60_000);

it('takes up no later one that the PIN alone has placed, and goes on under the one before', async () => {
  const hsm = await opened(await makeToken(), WORKERS, [LATER]);
  await hsm.useRoot(ROOT);
  for (let attempt = 0; attempt < 2; attempt += 1) {
    await expect(hsm.useRoot(LATER)).rejects.toMatchObject({ code: 'integrity_failed' });
    expect(hsm.status().custody).toBe('non-extractable');
    expect(await generationsMade(hsm)).toEqual([1]);
  }
}, 60_000);

it('goes back to an earlier one that is weaker, as the ceremony of the better one does', async () => {
  const hsm = await opened(await makeToken(), 1, [EARLIER]);
  await hsm.useRoot(EARLIER);
  await hsm.useRoot(ROOT);
  expect(hsm.status().custody).toBe('non-extractable');
  await hsm.useRoot(EARLIER);
  expect(hsm.status().custody).toBe('extractableByPinHolder');
}, 60_000);

it('takes up none that does not open what was wrapped under it, where custody cannot tell', async () => {
  const hsm = await opened(await tokenIn(temporaryFolder(), false), WORKERS, [ROOT, LATER]);
  await hsm.useRoot(ROOT);
  const known = { spec: SPEC, material: await made(hsm) };
  await hsm.useRoot(ROOT, known);
  await expect(hsm.useRoot(LATER, known)).rejects.toMatchObject({ code: 'integrity_failed' });
  expect(await generationsMade(hsm)).toEqual([1]);
  await hsm.useRoot(LATER);
  expect(await generationsMade(hsm)).toEqual([2]);
}, 60_000);
