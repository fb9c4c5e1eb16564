/** Keys of a log on a real token and a real database, as several processes of several zones have them. */
import { randomUUID, verify, createPublicKey } from 'node:crypto';
import { openCheckpointKeys } from '../../src/audit/checkpoint-keys.ts';
import type { CheckpointKeyParts, CheckpointKeys } from '../../src/audit/checkpoint-keys.ts';
import { parseNote } from '../../src/audit/tree/note.ts';
import { verifyNote } from '../../src/audit/tree/signatures.ts';
import { parseVkey } from '../../src/audit/tree/vkey.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import type { Hsm } from '../../src/hsm/port.ts';
import { logSeals, logTokenIntents } from '../../src/keyring/log-keys.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import type { Root } from '../../src/keyring/root.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { makeToken } from '../hsm/token-fixture.ts';
import { startTestDatabase } from '../store/database.ts';

/** An entry of the log's own, as it was recorded. */
export interface Recorded {
  readonly id: string;
  readonly operation: string;
  readonly detail: Readonly<Record<string, string>>;
}

export interface LogKeysWorld {
  readonly store: Store;
  readonly hsm: Hsm;
  readonly root: Root;
  readonly ownerUrl: string;
  readonly recorded: Recorded[];
  /** Ids of entries that are in the tree. */
  readonly inTree: Set<string>;
  /** A process: an instance with a row of its own. */
  open(change?: Partial<CheckpointKeyParts>): Promise<Process>;
  stop(): Promise<void>;
}

export interface Process {
  readonly instance: string;
  readonly keys: CheckpointKeys;
  /** Moves its monotonic clock on. */
  pass(milliseconds: number): void;
}

export async function openLogKeysWorld(): Promise<LogKeysWorld> {
  const [fixture, database] = await Promise.all([makeToken(), startTestDatabase()]);
  const hsm = await fixture.open();
  const store = openStore({ url: database.appUrl });
  const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const recorded: Recorded[] = [];
  const inTree = new Set<string>();
  const record = (operation: string, detail: Recorded['detail']) => {
    const id = `9-${String(recorded.length + 1)}`;
    recorded.push({ id, operation, detail });
    return Promise.resolve(id);
  };
  const open = async (change: Partial<CheckpointKeyParts> = {}): Promise<Process> => {
    const instance = randomUUID();
    const zone = change.zone ?? 'z1';
    await store.instances.open({ id: instance, zone, suites: [], envelopes: [1], graceMs: 0 });
    await store.instances.beat(instance, 0);
    let now = 0;
    const clock = () => new Date();
    const used = change.hsm ?? hsm;
    const keys = await openCheckpointKeys({
      ...{ hsm: used, engine: nativeEngine, seals: logSeals(root), store: store.logKeys, zone },
      intents: logTokenIntents({ hsm: used, root, store: store.keys, instance, clock }),
      ...{ origin: undefined, record, sequenced: (id) => Promise.resolve(inTree.has(id)) },
      monotonic: () => now,
      ...change,
    });
    return { instance, keys, pass: (milliseconds) => (now += milliseconds) };
  };
  const stop = async () => {
    await store.close();
    await hsm.close();
    await database.stop();
    fixture.remove();
  };
  return { store, hsm, root, ownerUrl: database.ownerUrl, recorded, inTree, open, stop };
}

/** Key id in hex, type, and public key. */
export function partsOf(vkey: string) {
  const [name = '', id = '', ...rest] = vkey.split('+');
  const bytes = Buffer.from(rest.join('+'), 'base64');
  return { name, id, type: bytes[0], publicKey: Uint8Array.from(bytes.subarray(1)) };
}

export function verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array) {
  const x = Buffer.from(publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, message, key, signature);
}

/** Ids, in hex, of those of `vkeys` that verify a line of the note; throws for any line that does not. */
export function verifiedBy(note: string, vkeys: readonly string[]): string[] {
  const keys = vkeys.map(parseVkey);
  const parsed = parseNote(note);
  const { verified } = verifyNote(parsed, keys);
  if (verified.length !== parsed.signatures.length) throw new Error('a line does not verify');
  return verified.map(({ vkey }) => vkey.keyId);
}
