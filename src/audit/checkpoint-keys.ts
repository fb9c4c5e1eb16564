/**
 * The keys that sign checkpoints: a pair for each zone, all under the log's name.
 *
 * A log's first pair is trusted by whoever pins it. Every other waits until the log itself says, signed
 * by a key that was trusted before, that it is one (`key-set-log.ts`), and until that entry is in the
 * tree: so a checkpoint never has a signature that its own log does not account for. A key that signs
 * no more is said to be retired only after every process has had time to notice.
 *
 * Nobody leads here: every step is a compare-and-swap on rows that are read anew, and is taken by
 * whoever comes to it first.
 */
import type { AuditId } from './ports.ts';
import type { CheckpointSigner } from './log-ports.ts';
import { TwofoldError } from '../errors.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Hsm } from '../hsm/port.ts';
import { makePair } from './key-making.ts';
import type {
  ListedLogKey,
  LogKey,
  LogKeySet,
  LogKeyStore,
  LogKeyUpdate,
  LogSeals,
  LogTokenIntents,
  NewPair,
} from './key-ports.ts';
import { attestLogKey, attestLogName, verifyLogKeys } from './key-rows.ts';
import { recordKeySet } from './key-set-log.ts';
import { vkeyOf } from './log-vkeys.ts';
import { formatVkey } from './tree/vkey.ts';
import type { RecordOwn } from './key-set-log.ts';
import { SigningPair } from './signing-pair.ts';

export interface CheckpointKeyParts {
  readonly hsm: Pick<Hsm, 'status' | 'generate' | 'destroyTokenKey' | 'random' | 'sign' | 'forget'>;
  readonly engine: Pick<Engine, 'signatures'>;
  readonly seals: LogSeals;
  readonly intents: LogTokenIntents;
  readonly store: LogKeyStore;
  readonly zone: string;
  /** As configured; undefined: the log's own, or for a new log the installation's. */
  readonly origin: string | undefined;
  /** Resolves once an entry of the log's own is durable. */
  readonly record: RecordOwn;
  /** Whether an entry is in the tree. */
  readonly sequenced: (id: AuditId) => Promise<boolean>;
  readonly clock?: () => Date;
  /** Milliseconds that never go back. */
  readonly monotonic?: () => number;
}

/** How long what was read of the keys stands without being read again. */
const FRESH_MS = 10_000;
/** How long a key is known to sign no more before the log says so; well above `FRESH_MS`. */
const RETIRE_AFTER_MS = 60_000;
/** How often a first start that others overtake looks again. */
const ATTEMPTS = 5;

export interface CheckpointKeys extends LogKeySet {
  readonly signer: CheckpointSigner;
  /** Vkeys of all keys that are trusted or will be, as last read. */
  readonly vkeys: readonly string[];
  /** Whether this zone has keys that may sign, and this process can use them, as last read. */
  readonly ready: boolean;
  /** Takes every step that is due: announces, activates, retires. Call it every few seconds, one call at a time. */
  tend(): Promise<void>;
  close(): void;
}

/** Reads the keys, or makes the zone's first ones. @throws TwofoldError invalid_value for another name than the log's */
export const openCheckpointKeys = async (parts: CheckpointKeyParts): Promise<CheckpointKeys> => {
  const keys = new ZoneKeys(parts);
  await keys.open();
  return keys;
};

interface Read {
  readonly origin: string | null;
  readonly keys: readonly LogKey[];
}

class ZoneKeys implements CheckpointKeys {
  readonly #parts: CheckpointKeyParts;
  readonly #now: () => number;
  readonly #clock: () => Date;
  #origin = '';
  #keys: readonly LogKey[] = [];
  #readAt = Number.NEGATIVE_INFINITY;
  #pair: SigningPair | null = null;
  /** Since when this process has seen that a key signs no more, by its id. */
  readonly #retiringSince = new Map<string, number>();

  constructor(parts: CheckpointKeyParts) {
    this.#parts = parts;
    this.#now = parts.monotonic ?? (() => performance.now());
    this.#clock = parts.clock ?? (() => new Date());
  }

  get origin(): string {
    return this.#origin;
  }

  get vkeys(): readonly string[] {
    const lasting = this.#keys.filter(({ state }) => state !== 'retired');
    return lasting.map((key) => formatVkey(vkeyOf(this.#origin, key)));
  }

  get ready(): boolean {
    return this.#pair !== null;
  }

  readonly signer: CheckpointSigner = {
    sign: async (size, root) => {
      const pair = await this.#signing();
      return pair.note(this.#origin, size, root).catch((error: unknown) => {
        throw unusable(error);
      });
    },
  };

  async open(): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      const read = await this.#read();
      this.#origin = this.#originOf(read);
      if (this.#own('active', 'pending').length > 0) break;
      try {
        await this.#make(read);
      } catch (error) {
        if (!TwofoldError.is(error, 'conflict') || attempt >= ATTEMPTS) throw error;
      }
    }
    // A token that is not that of the keys keeps nobody from starting: readiness says so.
    await this.#refresh().catch(() => undefined);
  }

  async list(): Promise<readonly ListedLogKey[]> {
    await this.#read();
    return this.#keys.map((key) => this.#listed(key));
  }

  async next(lost: boolean): Promise<NewPair> {
    await this.#read();
    if (this.#own('pending').length > 0) {
      throw new TwofoldError('conflict', 'A pair of keys of this zone waits already.');
    }
    return this.#newPair('pending', lost);
  }

  async tend(): Promise<void> {
    await this.#refresh().catch((error: unknown) => {
      if (!TwofoldError.is(error)) throw error;
    });
    await this.#announce();
    await this.#activate();
    await this.#retire();
  }

  close(): void {
    this.#use(null);
  }

  #originOf({ origin }: Read): string {
    const { origin: configured, seals } = this.#parts;
    const found = origin ?? configured ?? usualName(seals.installation);
    if (configured !== undefined && configured !== found) {
      throw new TwofoldError(
        'invalid_value',
        `audit.origin is ${configured}, but the log of this database is ${found}. A log keeps its ` +
          'name for life: set audit.origin to that, or leave it out.',
      );
    }
    return found;
  }

  /** Whether any key is there decides who is first; whoever inserts first is. */
  async #make({ origin }: Read): Promise<void> {
    const first = origin === null;
    const made = await this.#newPair(first ? 'active' : 'pending', first);
    const { mac } = this.#parts.seals;
    const value = { origin: this.#origin, createdAt: this.#clock() };
    try {
      await this.#parts.store.make(first ? await attestLogName(mac, value) : null, made.pair);
    } catch (error) {
      // An unknown outcome keeps the object: its rows may be there, or its intent still is.
      if (TwofoldError.is(error)) await made.discard();
      throw error;
    }
  }

  async #newPair(state: 'pending' | 'active', pinned: boolean): Promise<NewPair> {
    const { hsm, engine, seals, intents, zone } = this.#parts;
    const making = { hsm, signatures: engine.signatures, seals, intents, zone, clock: this.#clock };
    const { keys, objectId, discard } = await makePair(making, state, pinned);
    const rows = await Promise.all(keys.map((key) => attestLogKey(seals.mac, key)));
    return { keys: keys.map((key) => this.#listed(key)), pair: { rows, objectId }, discard };
  }

  #listed({ material, ...key }: LogKey): ListedLogKey {
    const vkey = formatVkey(vkeyOf(this.#origin, key));
    return { ...key, vkey, custody: material?.custody ?? null };
  }

  /** @throws TwofoldError integrity_failed, database_unavailable */
  async #read(): Promise<Read> {
    const began = this.#now();
    const stored = await this.#parts.store.read();
    await verifyLogKeys(this.#parts.seals.mac, stored);
    this.#keys = stored.keys.map(({ value }) => value);
    this.#readAt = began;
    return { origin: stored.name?.value.origin ?? null, keys: this.#keys };
  }

  #own(...states: readonly LogKey['state'][]): LogKey[] {
    const { zone } = this.#parts;
    return this.#keys.filter((key) => key.zone === zone && states.includes(key.state));
  }

  /** Reads the keys and opens those that sign, unless they are open. */
  async #refresh(): Promise<void> {
    await this.#read();
    const active = this.#own('active');
    const [ed25519, mlDsa] = (['ed25519', 'ml-dsa-44'] as const).map((kind) =>
      active.find((key) => key.kind === kind),
    );
    if (ed25519 === undefined || mlDsa === undefined) {
      this.#use(null);
      return;
    }
    const { id } = ed25519;
    if (this.#pair?.ed25519.id === id && this.#pair.mlDsa.id === mlDsa.id) return;
    const { hsm, engine, seals } = this.#parts;
    const parts = { hsm, signatures: engine.signatures, seals, clock: this.#clock };
    try {
      this.#use(await usablePair(parts, { ed25519, mlDsa }));
    } catch (error) {
      this.#use(null);
      throw error;
    }
  }

  #use(pair: SigningPair | null): void {
    if (this.#pair !== pair) this.#pair?.release();
    this.#pair = pair;
  }

  async #signing(): Promise<SigningPair> {
    try {
      if (this.#pair === null || this.#now() - this.#readAt > FRESH_MS) await this.#refresh();
    } catch (error) {
      throw unusable(error);
    }
    if (this.#pair !== null) return this.#pair;
    const { zone } = this.#parts;
    throw new TwofoldError('hsm_unavailable', `Zone ${zone} has no key of the log that may sign.`);
  }

  /** Keys of any zone: the one that made them may have no key that is trusted. */
  async #announce(): Promise<void> {
    const { record } = this.#parts;
    const waiting = this.#keys.filter((key) => key.state === 'pending' && key.announced === null);
    for (const key of waiting) {
      const by = key.pinned ? null : this.#pair;
      if (by === null && !(key.pinned && key.zone === this.#parts.zone)) continue;
      const announced = await recordKeySet(record, this.#origin, 'add', { key, by });
      await this.#update([{ ...key, announced, revision: key.revision + 1 }]);
    }
  }

  async #activate(): Promise<void> {
    const pending = this.#own('pending');
    if (pending.length === 0) return;
    for (const { announced, pinned } of pending) {
      if (announced === null) return;
      if (!pinned && !(await this.#parts.sequenced(announced))) return;
    }
    const at = this.#clock();
    const change = (state: LogKey['state'], activatedAt?: Date) => (key: LogKey) => ({
      ...key,
      state,
      activatedAt: activatedAt ?? key.activatedAt,
      revision: key.revision + 1,
    });
    const former = this.#own('active').map(change('retiring'));
    await this.#update([...former, ...pending.map(change('active', at))]);
    await this.#refresh();
  }

  async #retire(): Promise<void> {
    const pair = this.#pair;
    if (pair === null) return;
    const now = this.#now();
    for (const key of this.#own('retiring')) {
      const since = this.#retiringSince.get(key.id) ?? now;
      this.#retiringSince.set(key.id, since);
      if (now - since < RETIRE_AFTER_MS) continue;
      const { record } = this.#parts;
      await recordKeySet(record, this.#origin, 'retire', { key, by: pair });
      await this.#giveUp(key);
      this.#retiringSince.delete(key.id);
    }
  }

  /** The private half goes; what a kill leaves of it the next start removes (`keyring/orphans.ts`). */
  async #giveUp(key: LogKey): Promise<void> {
    const { hsm, intents } = this.#parts;
    const { id, material, revision, publicKey } = key;
    const here = hsm.status().token?.serial;
    const object = material?.custody === 'hsm-token' ? material : null;
    const removable = object !== null && object.tokenSerial === here ? object : null;
    const retired = { state: 'retired', material: null, retiredAt: this.#clock() } as const;
    const removals = removable === null ? [] : [await intents.toRemove(removable)];
    await this.#update([{ ...key, ...retired, revision: revision + 1 }], removals);
    if (removable === null) return;
    await hsm.forget(`log/${id}`);
    await hsm.destroyTokenKey({ ...removable, check: publicKey });
    await intents.drop(removable.objectId);
  }

  /** Others may have been faster: then the rows are as they left them. */
  async #update(
    keys: readonly LogKey[],
    removals: Parameters<LogKeyStore['update']>[1] = [],
  ): Promise<void> {
    const { seals, store } = this.#parts;
    const updates: LogKeyUpdate[] = [];
    for (const key of keys) {
      updates.push({ row: await attestLogKey(seals.mac, key), expected: key.revision - 1 });
    }
    try {
      await store.update(updates, removals);
    } catch (error) {
      if (!TwofoldError.is(error, 'conflict')) throw error;
    }
    await this.#read();
  }
}

/** Of a log whose operator names none: the same for the life of the installation. */
const usualName = (installation: string): string => `twofold.invalid/${installation}`;

/**
 * The name that the log has or would get, and the vkeys of every key that it ever had.
 * @throws TwofoldError integrity_failed
 */
export const logNameAndKeys = async (
  store: Pick<LogKeyStore, 'read'>,
  {
    mac,
    installation,
    configured,
  }: Pick<LogSeals, 'mac' | 'installation'> & {
    readonly configured: string | undefined;
  },
): Promise<{ readonly origin: string; readonly vkeys: readonly string[] }> => {
  const stored = await store.read();
  await verifyLogKeys(mac, stored);
  const origin = stored.name?.value.origin ?? configured ?? usualName(installation);
  return { origin, vkeys: stored.keys.map(({ value }) => formatVkey(vkeyOf(origin, value))) };
};

/** Says at once whether the key is on this token. */
const usablePair = async (...given: Parameters<typeof SigningPair.open>): Promise<SigningPair> => {
  const pair = await SigningPair.open(...given);
  try {
    await pair.signEd25519(new Uint8Array(0));
    return pair;
  } catch (error) {
    pair.release();
    throw error;
  }
};

/** What keeps a checkpoint from being signed, to whoever asks for one. */
const unusable = (cause: unknown): TwofoldError =>
  TwofoldError.is(cause, 'hsm_unavailable')
    ? cause
    : new TwofoldError('hsm_unavailable', 'The keys of the log cannot be used here now.', {
        cause,
      });
