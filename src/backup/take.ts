/** Takes a backup: one snapshot, streamed into encrypted chunks, read back, signed, and only then named. */
import { randomUUID } from 'node:crypto';

import type { Engine } from '../crypto/engine.ts';
import { TwofoldError } from '../errors.ts';
import { fingerprintOf } from '../recovery/key.ts';
import { ChunkWriter } from './chunk-writer.ts';
import { isAttested } from './escrow-mac.ts';
import type { LastingMac } from './escrow-mac.ts';
import type { Content } from './chunk-reader.ts';
import { newContent } from './content.ts';
import type { ContentKeys } from './content.ts';
import { countLines } from './counting.ts';
import { FILES, NewFolder, fileFailure, nameOf, removePartial } from './folder.ts';
import { END, PROBE, ROW, TABLE } from './lines.ts';
import { FORMAT, formatManifest, signManifest } from './manifest.ts';
import type { BackupSigner, Manifest, ManifestEscrow } from './manifest.ts';
import type { EntriesKept, Snapshot, StoredEscrow } from './ports.ts';

export interface TakeParts {
  readonly engine: Engine;
  readonly signer: BackupSigner;
  /** Finds wrapped roots that are not ours. */
  readonly lastingMac: LastingMac;
  readonly open: (entries: EntriesKept) => Promise<Snapshot>;
  readonly installation: string;
  /** Ciphertexts of old, as lines of JSON, for a restore to open. */
  readonly probes: () => AsyncIterable<string>;
  /** Of this program. */
  readonly version: string;
}

export interface Wanted {
  readonly id?: string;
  /** In which it gets a folder of its own. */
  readonly folder: string;
  readonly publicKey: Uint8Array;
  readonly entries: EntriesKept;
  readonly signal?: AbortSignal | undefined;
  /**
   * Waited for once the snapshot is held: nothing that is committed from now on is in the backup. Where it
   * fails nothing is written.
   */
  readonly onSnapshot?: (snapshot: Pick<Snapshot, 'facts'>) => Promise<void>;
}

export interface Taken {
  readonly path: string;
  readonly manifest: Manifest;
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/**
 * @throws TwofoldError conflict while another is being taken, or where a generation of the root was not
 *   wrapped for this recovery key, or what says so was altered (`hsm escrow`); storage_full; shutting_down once aborted; nothing is left
 *   then that looks like a backup
 */
export async function takeBackup(parts: TakeParts, wanted: Wanted): Promise<Taken> {
  const { folder, publicKey, entries } = wanted;
  const snapshot = await parts.open(entries);
  let target: NewFolder | undefined;
  try {
    const escrows = await escrowsFor(snapshot, publicKey, parts.lastingMac);
    await removePartial(folder, parts.installation);
    await wanted.onSnapshot?.(snapshot);
    const id = wanted.id ?? randomUUID();
    target = await NewFolder.make(folder, { installation: parts.installation, id });
    const written = await writeContent(parts, wanted, { snapshot, target, id });
    const manifest: Manifest = {
      ...factsOf(parts, snapshot, { id, entries }),
      ...written,
      escrows,
      recoveryKey: base64(fingerprintOf(publicKey)),
    };
    const bytes = formatManifest(manifest);
    await target.put(FILES.manifest, bytes);
    await target.put(FILES.signatures, await signManifest(parts.signer, bytes));
    if (wanted.signal?.aborted === true) throw stopped();
    const path = await target.publish(nameOf(id, snapshot.facts.takenAt));
    return { path, manifest };
  } catch (error) {
    await target?.discard();
    throw error;
  } finally {
    await snapshot.close();
  }
}

/**
 * What a backup would be of, had one been taken now.
 * @throws TwofoldError conflict as `takeBackup`
 */
export async function lookForBackup(
  parts: Pick<TakeParts, 'open' | 'lastingMac'>,
  { publicKey, entries }: Pick<Wanted, 'publicKey' | 'entries'>,
): Promise<Snapshot['facts']> {
  const snapshot = await parts.open(entries);
  try {
    await escrowsFor(snapshot, publicKey, parts.lastingMac);
    return snapshot.facts;
  } finally {
    await snapshot.close();
  }
}

/** A backup whose root nobody can place on another token would be none. */
async function escrowsFor(
  { facts: { generations, escrows } }: Snapshot,
  publicKey: Uint8Array,
  lastingMac: LastingMac,
): Promise<readonly ManifestEscrow[]> {
  const ours: StoredEscrow[] = [];
  for (const each of escrows) {
    const isFor = Buffer.compare(each.publicKey, publicKey) === 0;
    if (isFor && (await isAttested(each, lastingMac))) ours.push(each);
  }
  const missing = generations.filter(
    ({ generation, installation }) =>
      !ours.some((each) => each.generation === generation && each.installation === installation),
  );
  const [first] = missing;
  if (first !== undefined) {
    throw new TwofoldError(
      'conflict',
      `Root generation ${String(first.generation)} is not wrapped for the recovery key, or the row ` +
        'that says so was altered: run "twofold hsm escrow" first.',
    );
  }
  return ours.map(escrowText);
}

const escrowText = (escrow: StoredEscrow): ManifestEscrow => ({
  generation: escrow.generation,
  installation: escrow.installation,
  publicKey: base64(escrow.publicKey),
  point: base64(escrow.point),
  ciphertext: base64(escrow.ciphertext),
  wrapped: base64(escrow.wrapped),
  transcript: base64(escrow.transcript),
});

function factsOf(
  { installation, version }: TakeParts,
  { facts }: Snapshot,
  { id, entries }: { readonly id: string; readonly entries: EntriesKept },
) {
  const { log, takenAt, migrations, lastLane, origin } = facts;
  return {
    format: FORMAT,
    ...{ id, version, takenAt: takenAt.toISOString(), installation },
    generations: facts.generations.map(({ generation }) => generation),
    ...{ migrations, entries, lastLane },
    log: { origin, size: log.size, root: base64(log.root), note: log.note },
  } as const;
}

type Written = Pick<Manifest, 'tables' | 'probes' | 'content'>;

async function writeContent(
  parts: TakeParts,
  { publicKey, signal }: Wanted,
  { snapshot, target, id }: { snapshot: Snapshot; target: NewFolder; id: string },
): Promise<Written> {
  const { header, keys } = await newContent(parts.engine, publicKey, id);
  const file = await target.content();
  try {
    const writer = await ChunkWriter.begin(file, header, keys);
    const tables = await writeTables(writer, snapshot, signal);
    const probes = await writeProbes(writer, parts, signal);
    const rows = tables.reduce((sum, table) => sum + table.rows, 0);
    await writer.line(END, JSON.stringify({ rows, probes }));
    const { length, hash } = await writer.end();
    await file.sync();
    const written = { tables, probes };
    await readBack({ file, length, header, hash }, keys, written, signal);
    const { keyCommitment } = keys;
    const content = { length, hash: base64(hash), keyCommitment: base64(keyCommitment) };
    return { ...written, content };
  } catch (error) {
    throw fileFailure(error, 'The backup could not be written');
  } finally {
    keys.wipe();
    await file.close();
  }
}

const stopped = () => new TwofoldError('shutting_down', 'The backup was stopped.');

async function writeTables(writer: ChunkWriter, snapshot: Snapshot, signal?: AbortSignal) {
  const tables: { readonly name: string; readonly rows: number }[] = [];
  for (const table of snapshot.tables) {
    const { name, columns } = table;
    await writer.line(TABLE, JSON.stringify({ name, columns }));
    let count = 0;
    for await (const lines of snapshot.rows(table)) {
      if (signal?.aborted === true) throw stopped();
      for (const line of lines) await writer.line(ROW, line);
      count += lines.length;
    }
    tables.push({ name, rows: count });
  }
  return tables;
}

async function writeProbes(writer: ChunkWriter, { probes }: TakeParts, signal?: AbortSignal) {
  let count = 0;
  for await (const probe of probes()) {
    if (signal?.aborted === true) throw stopped();
    await writer.line(PROBE, probe);
    count += 1;
  }
  return count;
}

/** What was written is read from the file and opened again, while the key is still there. */
async function readBack(
  content: Content,
  keys: ContentKeys,
  { tables, probes }: Pick<Manifest, 'tables' | 'probes'>,
  signal?: AbortSignal,
): Promise<void> {
  const counts = await countLines(content, keys, signal);
  const asWritten =
    counts.probes === probes &&
    counts.tables.length === tables.length &&
    tables.every(({ name, rows }, at) => {
      const counted = counts.tables[at];
      return counted?.name === name && counted.rows === rows;
    });
  if (!asWritten) throw new TwofoldError('integrity_failed', 'The backup is not what was written.');
}
