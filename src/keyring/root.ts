/**
 * The root: the service's own keys, in as many generations as the database holds and the token has.
 *
 * `root-wrap` is a token object made by a ceremony; `root-seal` (AES-256-GCM on software halves) and
 * `root-mac` (row MACs, audit HMACs) are keys wrapped under it. One generation is in force: new material
 * is made under it. Older ones stay open until nothing refers to them, so that what was wrapped, sealed or
 * MACed under them serves meanwhile. How generations are found and opened: `root-opening.ts`.
 */
import { concatBytes, utf8 } from '../crypto/bytes.ts';
import { wipe } from '../crypto/secret.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import type { Encrypted, Hsm, HsmKey, HsmKeySpec, HsmMaterial } from '../hsm/port.ts';
import type { ToRewrap, WrappedMaterial } from '../hsm/port.ts';
import { NAME } from '../name.ts';
import type { SealedHalf } from './model.ts';
import { generationOf, stated } from './root-mac.ts';
import { isFailed, settleRest } from '../settled.ts';
import type { Settled } from '../settled.ts';
import { gcmExhausted } from './usage.ts';
import type { UsageCounters } from './usage.ts';

export const SEAL_SPEC: HsmKeySpec = { kind: 'aes', bits: 256 };
export const MAC_SPEC: HsmKeySpec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 };
/** First byte of a sealed half: seal version ‖ iv(12) ‖ ciphertext ‖ tag(16). */
const SEAL_VERSION = 1;
export const IV_LENGTH = 12;
export const TAG_LENGTH = 16;

/** What a software half is sealed for; bound as associated data. */
export interface SealBinding {
  readonly keyId: string;
  readonly version: number;
  /** Suite number; 0 for what is of no suite. */
  readonly suite: number;
  /**
   * `log`: the seed of a key that signs checkpoints, version 0. `import`: import parameters, by their id
   * and version 0.
   */
  readonly part: 'pq' | 'psk' | 'log' | 'import';
}

function sealAad(binding: SealBinding): Uint8Array {
  return utf8([NAME.seal, binding.keyId, binding.version, binding.suite, binding.part].join('\n'));
}

export function rootKey(
  generation: number,
  name: 'seal' | 'mac',
  spec: HsmKeySpec,
  material: HsmMaterial,
): HsmKey {
  return { id: `root/${String(generation)}/${name}`, spec, material };
}

/** By which a root is known again: `root-seal`, which was wrapped under it. */
export const underRoot = (seal: HsmMaterial | null): ToRewrap | undefined =>
  seal?.custody === 'hsm-wrapped' ? { spec: SEAL_SPEC, material: seal } : undefined;

/** A generation whose canary has opened. */
export interface OpenedGeneration {
  readonly generation: number;
  readonly seal: HsmMaterial;
  readonly mac: HsmMaterial;
}

/** What a root is made of. */
export interface RootParts {
  readonly installation: string;
  /** The lowest generation that the database knows: MACs that state none are its. */
  readonly first: number;
  /** The one that new material is made under; among `generations`. */
  readonly inForce: number;
  readonly generations: readonly OpenedGeneration[];
  /** `root-mac` of generations that are no longer on the token, for the audit log alone. */
  readonly kept: ReadonlyMap<number, WrappedMaterial>;
}

interface Keys {
  readonly seal: HsmKey;
  readonly mac: HsmKey;
}

export class Root {
  readonly #hsm: Hsm;
  readonly #uses: UsageCounters;
  readonly #open = new Map<number, Keys>();
  readonly #kept = new Map<number, HsmKey>();
  readonly #first: number;
  #inForce: number;
  /** The switch of the token to the generation in force, while it is under way. */
  #switching: Promise<void> = Promise.resolve();
  readonly installation: string;

  constructor(hsm: Hsm, uses: UsageCounters, parts: RootParts) {
    this.#hsm = hsm;
    this.#uses = uses;
    this.installation = parts.installation;
    this.#first = parts.first;
    this.#inForce = parts.inForce;
    for (const opened of parts.generations) this.add(opened);
    for (const [generation, material] of parts.kept) this.keep(generation, material);
  }

  /** The one in force. */
  get generation(): number {
    return this.#inForce;
  }

  /** The lowest that the database knows; MACs that state no generation are of it. */
  get first(): number {
    return this.#first;
  }

  /** Those that are open, ascending. */
  get generations(): readonly number[] {
    return [...this.#open.keys()].toSorted((a, b) => a - b);
  }

  /** Opens one more; it is not in force yet. */
  add({ generation, seal, mac }: OpenedGeneration): void {
    this.#open.set(generation, {
      seal: rootKey(generation, 'seal', SEAL_SPEC, seal),
      mac: rootKey(generation, 'mac', MAC_SPEC, mac),
    });
  }

  /** Of a generation that has gone from the token: its `root-mac`, wrapped under a later one. */
  keep(generation: number, material: WrappedMaterial): void {
    this.#kept.set(generation, rootKey(generation, 'mac', MAC_SPEC, material));
  }

  /**
   * From now on MACs and seals are of this generation, and so is what `whenSelected` waits for; an earlier
   * one than that in force changes nothing.
   * @throws TwofoldError zone_lacks_material when it is not open
   */
  enforce(generation: number): void {
    this.#keysOf(generation);
    if (generation <= this.#inForce) return;
    this.#inForce = generation;
    this.#switching = this.#select(generation);
    this.#switching.catch(() => undefined);
  }

  /** Until the token wraps new keys under the generation in force; tries again what failed. */
  async whenSelected(): Promise<void> {
    const generation = this.#inForce;
    const current = this.#switching;
    try {
      await current;
    } catch {
      if (this.#switching === current) {
        this.#switching = this.#select(generation);
        this.#switching.catch(() => undefined);
      }
      await this.#switching;
    }
  }

  /** Only what opens its `root-seal` is selected: whoever has the PIN may have replaced it since the canary opened. */
  async #select(generation: number): Promise<void> {
    const { material } = this.#keysOf(generation).seal;
    await this.#hsm.useRoot({ generation, installation: this.installation }, underRoot(material));
  }

  /** What is under this generation is nobody's any more; never the one in force. */
  shut(generation: number): void {
    if (generation === this.#inForce) return;
    const keys = this.#open.get(generation);
    this.#open.delete(generation);
    if (keys !== undefined) this.#hsm.forget(keys.seal.id).catch(() => undefined);
  }

  /** Row MACs (`RootMac`); callers begin `data` with their own domain label. */
  mac = async (data: Uint8Array, like?: Uint8Array): Promise<Uint8Array> => {
    const generation = this.#generationLike(like);
    return this.#stated(generation, this.#keysOf(generation).mac, data);
  };

  /** `mac` of many rows, in few calls; each has its own outcome, in the order of the items. */
  async macs(items: readonly ToMac[]): Promise<readonly Settled<Uint8Array>[]> {
    const generations = items.map(({ like }) => this.#generationLike(like));
    const settled: Settled<Uint8Array>[] = [];
    for (const generation of new Set(generations)) {
      const { mac } = this.#keysOf(generation);
      const places = [...items.entries()].filter(([place]) => generations[place] === generation);
      const inputs = places.map(([, { data }]) => data);
      const made = await this.#hsm.macMany(mac, inputs);
      for (const [index, [place]] of places.entries()) {
        const each = made[index] ?? new TwofoldError('internal');
        settled[place] = isFailed(each) ? each : stated(each, generation, this.#first);
      }
    }
    return settled;
  }

  /** The same for batches of the audit log, whose MACs stand for ever: also under generations that went. */
  auditMac = async (data: Uint8Array, like?: Uint8Array): Promise<Uint8Array> => {
    const said = like === undefined ? null : generationOf(like, this.#first);
    const kept = said === null || this.#open.has(said) ? undefined : this.#kept.get(said);
    if (said === null || kept === undefined) return this.mac(data, like);
    return this.#stated(said, kept, data);
  };

  /**
   * 32 bytes under `root-mac` of the first generation, for ever: values in audit entries, which are looked
   * for by their MACs, and tokens of pages.
   */
  valueMac = async (data: Uint8Array): Promise<Uint8Array> => {
    const key = this.#open.get(this.#first)?.mac ?? this.#kept.get(this.#first);
    if (key === undefined) throw notOpen(this.#first);
    return this.#hsm.mac(key, data, { urgent: true });
  };

  /** Seals a software half; `plaintext` stays the caller's to wipe. */
  async seal(plaintext: SecretBytes, binding: SealBinding): Promise<SealedHalf> {
    const generation = this.#inForce;
    const { seal } = this.#keysOf(generation);
    await this.#uses.countGcm(seal.id);
    const aad = sealAad(binding);
    const { iv, ciphertext } = await this.#hsm.encrypt(seal, plaintext.reveal(), aad);
    return sealedHalf(generation, { iv, ciphertext });
  }

  /**
   * @throws TwofoldError integrity_failed when the half was sealed for something else or altered,
   *   zone_lacks_material when its generation is not open
   */
  async unseal(half: SealedHalf, binding: SealBinding): Promise<SecretBytes> {
    const { seal } = this.#keysOf(half.generation);
    if (half.sealed[0] !== SEAL_VERSION || half.sealed.length <= 1 + IV_LENGTH + TAG_LENGTH) {
      throw new TwofoldError('integrity_failed', 'A sealed half is malformed.');
    }
    const iv = half.sealed.subarray(1, 1 + IV_LENGTH);
    const ciphertext = half.sealed.subarray(1 + IV_LENGTH);
    try {
      return await this.#hsm.decrypt(seal, { iv, ciphertext }, sealAad(binding));
    } catch (error) {
      throw doesNotOpen(error);
    }
  }

  /** The same keys under the generation in force, inside the token; each has its own outcome. */
  async rewrap(items: readonly ToRewrap[]): Promise<readonly Settled<WrappedMaterial>[]> {
    if (items.length === 0) return [];
    await this.whenSelected();
    return this.#hsm.rewrap(items);
  }

  /** The same halves under the generation in force, in few calls; each has its own outcome. */
  async reseal(items: readonly ToReseal[]): Promise<readonly Settled<SealedHalf>[]> {
    if (items.length === 0) return [];
    const generation = this.#inForce;
    const { seal } = this.#keysOf(generation);
    const opened = await this.#openedOf(items);
    try {
      if ((await this.#uses.permitGcm(seal.id, items.length)) < items.length) throw gcmExhausted();
      return await settleRest(opened, async (rest) => {
        const plain = rest.map(({ secret, binding }) => ({
          plaintext: secret.reveal(),
          aad: sealAad(binding),
        }));
        const sealed = await this.#hsm.encryptMany(seal, plain);
        return sealed.map((each) => (isFailed(each) ? each : sealedHalf(generation, each)));
      });
    } finally {
      wipe(...opened.map((each) => (isFailed(each) ? undefined : each.secret)));
    }
  }

  /** By generation: the halves of one are opened together. */
  async #openedOf(items: readonly ToReseal[]): Promise<readonly Settled<OpenedHalf>[]> {
    const opened: Settled<OpenedHalf>[] = [];
    const generations = new Set(items.map(({ half }) => half.generation));
    for (const generation of generations) {
      const { seal } = this.#keysOf(generation);
      const places = [...items.entries()].filter(([, { half }]) => half.generation === generation);
      const sealed = places.map(([, { half, binding }]) => ({
        iv: half.sealed.subarray(1, 1 + IV_LENGTH),
        ciphertext: half.sealed.subarray(1 + IV_LENGTH),
        aad: sealAad(binding),
      }));
      const settled = await this.#hsm.decryptMany(seal, sealed);
      for (const [index, [place, { half, binding }]] of places.entries()) {
        const secret = settled[index] ?? new TwofoldError('internal');
        if (isFailed(secret)) opened[place] = doesNotOpen(secret);
        else if (half.sealed[0] === SEAL_VERSION) opened[place] = { secret, binding };
        else opened[place] = new TwofoldError('integrity_failed', 'A sealed half is malformed.');
      }
    }
    return opened;
  }

  /** `root-mac` of another generation, wrapped under the one in force. */
  async takeOver(generation: number): Promise<WrappedMaterial> {
    const { material } = this.#open.get(generation)?.mac ?? this.#kept.get(generation) ?? {};
    if (material?.custody !== 'hsm-wrapped') throw notOpen(generation);
    const [taken] = await this.rewrap([{ spec: MAC_SPEC, material }]);
    if (taken === undefined) throw new TwofoldError('internal');
    if (isFailed(taken)) throw taken;
    return taken;
  }

  /** That which a MAC states where it is open, else the one in force. */
  #generationLike(like: Uint8Array | undefined): number {
    const said = like === undefined ? null : generationOf(like, this.#first);
    return said !== null && this.#open.has(said) ? said : this.#inForce;
  }

  #keysOf(generation: number): Keys {
    const keys = this.#open.get(generation);
    if (keys === undefined) throw notOpen(generation);
    return keys;
  }

  async #stated(generation: number, key: HsmKey, data: Uint8Array): Promise<Uint8Array> {
    return stated(await this.#hsm.mac(key, data, { urgent: true }), generation, this.#first);
  }
}

/** One item of `macs`: under the generation that `like` states, if any. */
export interface ToMac {
  readonly data: Uint8Array;
  readonly like?: Uint8Array;
}

/** One item of `reseal`. */
export interface ToReseal {
  readonly half: SealedHalf;
  readonly binding: SealBinding;
}

interface OpenedHalf {
  readonly secret: SecretBytes;
  readonly binding: SealBinding;
}

const sealedHalf = (generation: number, { iv, ciphertext }: Encrypted): SealedHalf => ({
  custody: 'sealed',
  generation,
  sealed: concatBytes(Uint8Array.of(SEAL_VERSION), iv, ciphertext),
});

/** A half is ours, so one that does not open was altered or put in another's place. */
const doesNotOpen = (error: unknown): TwofoldError =>
  TwofoldError.is(error, 'decryption_failed')
    ? new TwofoldError('integrity_failed', 'A sealed half does not open.', { cause: error })
    : TwofoldError.from(error);

const notOpen = (generation: number) =>
  new TwofoldError('zone_lacks_material', `Root generation ${String(generation)} is not open.`);
