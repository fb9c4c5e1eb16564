/** A root that travels by the recovery key: what the other token can do with it, and what is refused. */
import { randomBytes } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { EscrowedRoot } from '../../src/hsm/ceremony-transport.ts';
import type { HsmKeySpec } from '../../src/hsm/port.ts';
import {
  runEscrowCeremony,
  runJoinAcceptance,
  runJoinEnd,
  runJoinOffer,
  runPlacementCeremony,
  runRootCeremony,
  runRootDestruction,
} from '../../src/hsm/run-ceremony.ts';
import { newSeed, recoveryKeyOf } from '../../src/recovery/key.ts';
import { formatShare, shareSeed } from '../../src/recovery/shares.ts';
import { makeToken, ROOT, temporaryFolder, tokenIn } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

let here: TokenFixture;
let there: TokenFixture;
let publicKey: Uint8Array;
let shareFiles: readonly string[];
let escrow: EscrowedRoot;

const place = ({ token }: TokenFixture) => ({
  ...token,
  tokenSelector: { label: token.tokenLabel },
});

beforeAll(async () => {
  there = await tokenIn(temporaryFolder(), false);
  here = await makeToken();
  const seed = newSeed();
  ({ publicKey } = recoveryKeyOf(nativeEngine, seed));
  shareFiles = shareSeed(seed, publicKey, { shares: 3, threshold: 2 }).map((share) => {
    const file = join(here.folder, `share-${String(share.index)}`);
    writeFileSync(file, formatShare(share));
    return file;
  });
  escrow = await runEscrowCeremony({ ...place(here), root: ROOT, publicKey });
});
afterAll(() => {
  here.remove();
  there.remove();
});

const failure = async (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'none',
    (error: unknown) => (TwofoldError.is(error) ? `${error.code}: ${error.message}` : 'other'),
  );

const objectsOn = async (fixture: TokenFixture): Promise<number> => {
  const hsm = await fixture.open({ workers: 1 });
  try {
    return (await hsm.roots()).length;
  } finally {
    await hsm.close();
  }
};

const EC: HsmKeySpec = { kind: 'ec', curve: 'P-384', use: 'sign' };
const AES: HsmKeySpec = { kind: 'aes', bits: 256 };

describe('an escrowed root', () => {
  it('is refused by its bytes: altered, for another key, with too few or wrong shares', async () => {
    const flip = (bytes: Uint8Array) => bytes.map((byte, at) => (at === 20 ? byte ^ 1 : byte));
    for (const field of ['ciphertext', 'transcript', 'wrapped'] as const) {
      const altered = { ...escrow, [field]: flip(escrow[field]) };
      const code = await failure(
        runPlacementCeremony({ ...place(there), escrow: altered, shareFiles }),
      );
      expect(code).not.toBe('none');
    }
    const other = recoveryKeyOf(nativeEngine, newSeed()).publicKey;
    const foreign = { ...escrow, publicKey: other };
    expect(
      await failure(runPlacementCeremony({ ...place(there), escrow: foreign, shareFiles })),
    ).toContain('integrity_failed: the root was wrapped for another recovery key');
    expect(
      await failure(
        runPlacementCeremony({ ...place(there), escrow, shareFiles: shareFiles.slice(0, 1) }),
      ),
    ).toContain('1 of the 2 shares');
    expect(await objectsOn(there)).toBe(0);
  }, 60_000);

  it('serves on another token what was wrapped on the first, with the same custody', async () => {
    const first = await here.open();
    await first.useRoot(ROOT);
    const signing = {
      id: 'a',
      spec: EC,
      material: await first.generate(EC, { custody: 'hsm-wrapped' }),
    };
    const sealing = {
      id: 'b',
      spec: AES,
      material: await first.generate(AES, { custody: 'hsm-wrapped' }),
    };
    const [secret, aad] = [randomBytes(100), randomBytes(10)];
    const sealed = await first.encrypt(sealing, secret, aad);
    await first.close();

    const placed = await runPlacementCeremony({ ...place(there), escrow, shareFiles });
    expect(placed).toEqual({ made: true, root: ROOT, custody: 'non-extractable' });
    const again = await runPlacementCeremony({ ...place(there), escrow, shareFiles });
    expect(again).toMatchObject({ made: false });
    expect(await objectsOn(there)).toBe(1);

    const second = await there.open();
    await second.useRoot(ROOT);
    expect(second.status().custody).toBe('non-extractable');
    expect((await second.decrypt(sealing, sealed, aad)).reveal()).toEqual(Uint8Array.from(secret));
    expect((await second.sign(signing, randomBytes(48))).length).toBe(96);
    await second.close();
  }, 60_000);

  it('is not made of a root that the token has not', async () => {
    const root = { ...ROOT, generation: 2 };
    expect(await failure(runEscrowCeremony({ ...place(here), root, publicKey }))).toContain(
      'zone_lacks_material',
    );
  });
});

describe('the offer of a zone that joins', () => {
  const offers = () =>
    readdirSync(there.token.stateDir)
      .filter((name) => name.startsWith('join.offer'))
      .toSorted();

  it('is not waited for without end', async () => {
    const signal = AbortSignal.timeout(1);
    expect(await failure(runJoinOffer({ ...place(there), signal }))).toBe(
      'hsm_unavailable: the ceremony took too long and was ended',
    );
  });

  it('leaves no seed, of a run that was killed while it wrote its file either', async () => {
    const leave = () => writeFileSync(join(there.token.stateDir, 'join.offer.4242.new'), 'seed');
    leave();
    await runJoinOffer(place(there));
    expect(offers()).toEqual(['join.offer']);
    leave();
    expect(await runJoinEnd(place(there))).toEqual({ destroyed: 1, roots: [] });
    expect(offers()).toEqual([]);
  });

  it('takes along what it placed when its join is refused, and nothing else', async () => {
    const other = { installation: '11111111-89ab-4def-8123-456789abcdef', generation: 1 };
    await runRootDestruction({ ...place(there), ...ROOT });
    await runRootCeremony({ ...place(there), ...other });
    const { publicKey: offered } = await runJoinOffer(place(there));
    const wrapped = await runEscrowCeremony({ ...place(here), root: ROOT, publicKey: offered });
    await runJoinAcceptance({ ...place(there), escrow: wrapped });
    expect(await objectsOn(there)).toBe(2);
    const another = { ...place(there), publicKey, roots: true };
    expect(await runJoinEnd(another)).toEqual({ destroyed: 0, roots: [] });
    const ended = { ...place(there), publicKey: offered, roots: true };
    expect(await runJoinEnd(ended)).toEqual({ destroyed: 1, roots: [ROOT] });
    expect(await runJoinEnd(ended)).toEqual({ destroyed: 0, roots: [] });
    expect([await objectsOn(there), offers()]).toEqual([1, []]);
  }, 60_000);
});
