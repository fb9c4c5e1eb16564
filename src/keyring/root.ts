/**
 * The root over the database and the token: finds or begins a generation, and opens it.
 *
 * `root-wrap` is a token object made by the ceremony; `root-seal` (AES-256-GCM on software halves)
 * and `root-mac` (row MACs, audit HMAC) are keys wrapped under it. A generation's canary is opened
 * before any use. What does not fit together stops the start; nothing here ever replaces a root.
 */
import { createHash, randomUUID } from 'node:crypto';

import { concatBytes, equalBytes, uint32, utf8 } from '../crypto/bytes.ts';
import { wipe } from '../crypto/secret.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm, HsmKey, HsmKeySpec, HsmMaterial, RootOnToken } from '../hsm/port.ts';
import { NAME } from '../name.ts';
import type { SealedHalf } from './model.ts';
import type { RootGeneration, RootStore } from './ports.ts';
import type { UsageCounters } from './usage.ts';

const SEAL_SPEC: HsmKeySpec = { kind: 'aes', bits: 256 };
const MAC_SPEC: HsmKeySpec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 };
/** First byte of a sealed half: seal version ‖ iv(12) ‖ ciphertext ‖ tag(16). */
const SEAL_VERSION = 1;
const IV_LENGTH = 12;
const TAG_LENGTH = 16;

/** What a software half is sealed for; bound as associated data. */
export interface SealBinding {
  readonly keyId: string;
  readonly version: number;
  /** Suite number; 0 for what is of no suite. */
  readonly suite: number;
  /** `log`: the seed of a key that signs checkpoints, version 0. */
  readonly part: 'pq' | 'psk' | 'log';
}

function sealAad(binding: SealBinding): Uint8Array {
  return utf8([NAME.seal, binding.keyId, binding.version, binding.suite, binding.part].join('\n'));
}

function rootKey(
  generation: number,
  name: 'seal' | 'mac',
  spec: HsmKeySpec,
  material: HsmMaterial,
): HsmKey {
  return { id: `root/${String(generation)}/${name}`, spec, material };
}

/**
 * The canary binds `root-mac` too: the row of a generation has no MAC, and a user's HMAC key put in
 * the place of `root-mac` would let its users make row MACs.
 */
const canaryAad = (root: RootOnToken, mac: HsmMaterial) =>
  concatBytes(
    utf8(NAME.canary),
    utf8(root.installation),
    uint32(root.generation),
    createHash('sha256')
      .update(mac.custody === 'hsm-wrapped' ? mac.blob : mac.objectId)
      .digest(),
  );

/** An open generation: the service's own keys. */
export class Root {
  readonly #hsm: Hsm;
  readonly #seal: HsmKey;
  readonly #mac: HsmKey;
  readonly #uses: UsageCounters;
  readonly generation: number;
  readonly installation: string;

  constructor(
    hsm: Hsm,
    uses: UsageCounters,
    opened: { root: RootOnToken; seal: HsmMaterial; mac: HsmMaterial },
  ) {
    this.#hsm = hsm;
    this.#uses = uses;
    this.generation = opened.root.generation;
    this.installation = opened.root.installation;
    this.#seal = rootKey(this.generation, 'seal', SEAL_SPEC, opened.seal);
    this.#mac = rootKey(this.generation, 'mac', MAC_SPEC, opened.mac);
  }

  /** HMAC-SHA-256 under `root-mac`; callers begin `data` with their own domain label. */
  mac = (data: Uint8Array): Promise<Uint8Array> => this.#hsm.mac(this.#mac, data, { urgent: true });

  /** Seals a software half; `plaintext` stays the caller's to wipe. */
  async seal(plaintext: SecretBytes, binding: SealBinding): Promise<SealedHalf> {
    await this.#uses.countGcm(this.#seal.id);
    const aad = sealAad(binding);
    const { iv, ciphertext } = await this.#hsm.encrypt(this.#seal, plaintext.reveal(), aad);
    const sealed = concatBytes(Uint8Array.of(SEAL_VERSION), iv, ciphertext);
    return { custody: 'sealed', generation: this.generation, sealed };
  }

  /** @throws TwofoldError integrity_failed when the half was sealed for something else or altered */
  async unseal(half: SealedHalf, binding: SealBinding): Promise<SecretBytes> {
    if (half.generation !== this.generation) {
      throw new TwofoldError(
        'zone_lacks_material',
        `Root generation ${String(half.generation)} is not open.`,
      );
    }
    if (half.sealed[0] !== SEAL_VERSION || half.sealed.length <= 1 + IV_LENGTH + TAG_LENGTH) {
      throw new TwofoldError('integrity_failed', 'A sealed half is malformed.');
    }
    const iv = half.sealed.subarray(1, 1 + IV_LENGTH);
    const ciphertext = half.sealed.subarray(1 + IV_LENGTH);
    try {
      return await this.#hsm.decrypt(this.#seal, { iv, ciphertext }, sealAad(binding));
    } catch (error) {
      if (!TwofoldError.is(error, 'decryption_failed')) throw error;
      throw new TwofoldError('integrity_failed', 'A sealed half does not open.', { cause: error });
    }
  }
}

const stop = (detail: string) => new TwofoldError('integrity_failed', detail);

function isFor(row: RootGeneration, root: RootOnToken): boolean {
  return root.generation === row.generation && root.installation === row.installation;
}

function onToken(roots: readonly RootOnToken[], row: RootGeneration): RootOnToken | undefined {
  return roots.find((root) => isFor(row, root));
}

/** What the caller does to make `root-wrap` exist: the ceremony in a process of its own. */
export type Ceremony = (root: RootOnToken) => Promise<void>;

/**
 * Opens the newest generation, beginning or completing the first one where that is safe.
 *
 * `ceremony` null: roots are made by the operator (production); a missing one is then an error.
 * @throws TwofoldError integrity_failed when token and database do not belong together
 */
export async function openRoot(
  hsm: Hsm,
  store: RootStore,
  uses: UsageCounters,
  ceremony: Ceremony | null,
): Promise<Root> {
  const root = await findOrBegin(hsm, store, ceremony);
  await hsm.useRoot(root.onToken);
  const complete =
    root.row.state === 'complete' ? root.row : await completeGeneration(hsm, store, root);
  const { seal, mac, canary } = complete;
  if (!isFor(complete, root.onToken) || seal === null || mac === null || canary === null) {
    throw stop('The root row is incomplete.');
  }
  await openCanary(hsm, root.onToken, { seal, mac, canary });
  return new Root(hsm, uses, { root: root.onToken, seal, mac });
}

interface FoundRoot {
  readonly row: RootGeneration;
  readonly onToken: RootOnToken;
}

async function findOrBegin(
  hsm: Hsm,
  store: RootStore,
  ceremony: Ceremony | null,
): Promise<FoundRoot> {
  const [rows, roots] = [await store.generations(), await hsm.roots()];
  const newest = rows.toSorted((a, b) => b.generation - a.generation)[0];
  if (newest === undefined) return begin(hsm, store, roots, ceremony);
  const found = onToken(roots, newest);
  if (found !== undefined) return { row: newest, onToken: found };
  if (newest.state === 'complete') {
    throw stop(
      `The database holds root generation ${String(newest.generation)} of installation ` +
        `${newest.installation}, but the token does not. Restore the token from its backup; ` +
        'a new root would make every key unreadable and is never made here.',
    );
  }
  return makeOnToken(hsm, newest, ceremony);
}

async function begin(
  hsm: Hsm,
  store: RootStore,
  roots: readonly RootOnToken[],
  ceremony: Ceremony | null,
): Promise<FoundRoot> {
  if (await store.hasKeys()) {
    throw stop('The database holds keys but no root generation; restore it from its backup.');
  }
  const [existing, another] = roots;
  if (existing === undefined) {
    // Nothing is intended for a root that an operator will make under a name of its own.
    if (ceremony === null) throw noRoot();
    return makeOnToken(hsm, await store.intend(1, randomUUID()), ceremony);
  }
  if (ceremony !== null) {
    throw stop(
      `The token holds root generation ${String(existing.generation)} of installation ` +
        `${existing.installation}, but the database knows no root. Restore the database from its ` +
        'backup; a new root over existing data is never made here.',
    );
  }
  if (another !== undefined) {
    throw stop('The token holds several roots and the database knows none: which one is unclear.');
  }
  const row = await store.intend(existing.generation, existing.installation);
  if (!isFor(row, existing)) {
    throw stop(
      'Another instance began with the root of another token; every token holds the same.',
    );
  }
  return { row, onToken: existing };
}

const noRoot = () =>
  stop(
    'The token does not hold the root of this database. For a new installation make one with the ' +
      'command `hsm make-root --so-pin-file FILE`; otherwise restore the token from its backup. ' +
      'Then start again.',
  );

async function makeOnToken(
  hsm: Hsm,
  row: RootGeneration,
  ceremony: Ceremony | null,
): Promise<FoundRoot> {
  if (ceremony === null) throw noRoot();
  // Another instance on the same token may have held it since.
  const held = onToken(await hsm.roots(), row);
  if (held !== undefined) return { row, onToken: held };
  await ceremony({ generation: row.generation, installation: row.installation });
  const made = onToken(await hsm.roots(), row);
  if (made === undefined) throw stop('The ceremony ended without a root on the token.');
  return { row, onToken: made };
}

/** `root-seal`, `root-mac` and the canary; the first instance to write them wins. */
async function completeGeneration(hsm: Hsm, store: RootStore, { row, onToken: root }: FoundRoot) {
  if (await store.hasKeys()) return completedMeanwhile(store, root);
  const seal = await hsm.generate(SEAL_SPEC, { custody: 'hsm-wrapped' });
  const mac = await hsm.generate(MAC_SPEC, { custody: 'hsm-wrapped' });
  const sealKey = { id: `root/new/${randomUUID()}`, spec: SEAL_SPEC, material: seal };
  const { iv, ciphertext } = await hsm.encrypt(sealKey, utf8(NAME.canary), canaryAad(root, mac));
  await hsm.forget(sealKey.id);
  const canary = concatBytes(iv, ciphertext);
  return store.complete({ ...row, state: 'complete', seal, mac, canary });
}

/** Keys exist only under a complete root: another instance was faster, or the row was turned back. */
async function completedMeanwhile(store: RootStore, root: RootOnToken): Promise<RootGeneration> {
  const row = (await store.generations()).find((candidate) => isFor(candidate, root));
  if (row?.state === 'complete') return row;
  throw stop('The database holds keys but its root is incomplete; restore it from its backup.');
}

interface SealedCanary {
  readonly seal: HsmMaterial;
  readonly mac: HsmMaterial;
  readonly canary: Uint8Array;
}

async function openCanary(hsm: Hsm, root: RootOnToken, { seal, mac, canary }: SealedCanary) {
  const wanted = utf8(NAME.canary);
  if (canary.length !== IV_LENGTH + wanted.length + TAG_LENGTH)
    throw stop('The canary is not ours.');
  const key = rootKey(root.generation, 'seal', SEAL_SPEC, seal);
  const sealed = { iv: canary.subarray(0, IV_LENGTH), ciphertext: canary.subarray(IV_LENGTH) };
  const opened = await hsm.decrypt(key, sealed, canaryAad(root, mac)).catch((error: unknown) => {
    if (!TwofoldError.is(error, 'decryption_failed')) throw error;
    throw new TwofoldError('integrity_failed', 'The canary of the root generation does not open.', {
      cause: error,
    });
  });
  try {
    if (!equalBytes(opened.reveal(), wanted)) throw stop('The canary is not ours.');
  } finally {
    wipe(opened);
  }
}
