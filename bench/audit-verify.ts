/**
 * What verifying an export of the audit log takes: seconds and peak memory of `twofold audit verify` on
 * a synthetic export with entries as they are in service, a checkpoint every 1,000 entries.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { formatVkey } from '../src/audit/tree/vkey.ts';
import { uuid } from '../src/audit/verify/key-states.ts';
import { ModelKey } from '../test/audit/synthetic-keys.ts';
import {
  instanceOf,
  jsonLines,
  Lanes,
  makePair,
  noteOf,
  ORIGIN,
  put,
  signersOf,
  TileWriter,
} from '../test/audit/synthetic.ts';
import type { Draft, SignerPair } from '../test/audit/synthetic.ts';

const KEYS = 1_000;
/** One in so many entries is a change. */
const CHANGE_EVERY = 50;
const CHECKPOINT_EVERY = 1_000;
const LANES = 8;

export interface AuditVerifyReport {
  readonly entries: number;
  readonly bytes: number;
  readonly checkpoints: number;
  readonly changes: number;
  /** Of the whole command, start of the process included. */
  readonly seconds: number;
  readonly peakMegabytes: number;
}

/** @throws Error when the export does not verify */
export async function measureAuditVerify(entries: number): Promise<AuditVerifyReport> {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-audit-verify-'));
  try {
    const pair = makePair();
    const made = await makeExport(folder, entries, pair);
    const trust = join(folder, 'trust');
    writeFileSync(
      trust,
      signersOf(pair)
        .map(({ vkey }) => `${formatVkey(vkey)}\n`)
        .join(''),
    );
    const began = performance.now();
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--disable-warning=ExperimentalWarning',
      join(import.meta.dirname, 'audit-verify-run.ts'),
      folder,
      trust,
    ]);
    const seconds = (performance.now() - began) / 1000;
    const { verified, maxRssKb, changes, checkpoints } = JSON.parse(stdout) as Run;
    if (!verified) throw new Error('the export does not verify');
    return { entries, ...made, checkpoints, changes, seconds, peakMegabytes: maxRssKb / 1024 };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface Run {
  readonly verified: boolean;
  readonly maxRssKb: number;
  readonly changes: number;
  readonly checkpoints: number;
}

async function makeExport(folder: string, entries: number, pair: SignerPair) {
  const lanes = new Lanes();
  const writer = new TileWriter(folder);
  const keys = Array.from({ length: KEYS }, (_, at) => new ModelKey(at + 1, 'default'));
  const notes: string[] = [];
  let bytes = 0;
  for (let at = 0; at < entries; at += 1) {
    const { body, leaf } = lanes.place(draftAt(at, keys), Math.floor(at / 1000));
    writer.append(body, leaf);
    bytes += body.length;
    if ((at + 1) % CHECKPOINT_EVERY === 0 || at + 1 === entries) {
      notes.push(await noteOf(at + 1, writer.root(), signersOf(pair)));
    }
  }
  writer.end();
  put(folder, 'checkpoint', notes.at(-1) ?? '');
  put(folder, 'checkpoints', notes.join('--\n'));
  put(folder, 'state.ndjson', jsonLines(keys.map((key) => key.row())));
  const rows = lanes.counts().map(([lane, n]) => ({
    lane,
    kind: lane % 2 === 1 ? 'use' : 'change',
    instance: uuid(instanceOf(lane)),
    closed: false,
    next: n + 1,
  }));
  put(folder, 'lanes.ndjson', jsonLines(rows));
  const at = new Date().toISOString();
  const manifest = { format: 1, origin: ORIGIN, from: 0, until: entries, stateFrom: entries, at };
  put(folder, 'export.json', jsonLines([manifest]));
  return { bytes };
}

/** First one creation for each key, then uses with a change now and then. */
function draftAt(at: number, keys: readonly ModelKey[]): Draft {
  const key = keys[at % keys.length];
  if (key === undefined) throw new Error('no key');
  if (at < keys.length) return key.create(2);
  if (at % CHANGE_EVERY === 0) return key.change(2 + 2 * (at % (LANES / 2)), at / CHANGE_EVERY);
  const { keyId, namespace } = key;
  const lane = 1 + 2 * (at % (LANES / 2));
  return { lane, operation: 'unwrap', keyId, keyVersion: 1, namespace };
}

export function renderAuditVerify(report: AuditVerifyReport): string {
  const { entries, bytes, checkpoints, changes, seconds, peakMegabytes } = report;
  return [
    `${entries} entries (${(bytes / entries).toFixed(0)} bytes each), ${checkpoints} checkpoints, ${changes} changes of keys`,
    `verified in ${seconds.toFixed(2)} s (bound: 10 s a million), ${peakMegabytes.toFixed(0)} MB at most (bound: 300 MB)`,
  ].join('\n');
}
