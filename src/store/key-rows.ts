/** Rows of `key`. */
import type { Attested } from '../keyring/ports.ts';
import type { Destruction, Key, KeyExport, RotationHold, Suspension } from '../keyring/model.ts';
import { holdFromJson, holdJson } from '../keyring/rotation-hold.ts';
import { policyFromJson, policyJson } from '../keyring/rotation-policy.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import type { keyModel } from './generated/models/key.ts';
import { RowReader, malformed } from './rows.ts';

/** A row of `key`, column by column. */
export type KeyRow = { readonly [C in keyof keyModel]: Column<keyModel[C]> };

/** Any bytes will do, and JSON is a plain value. */
export type Column<T> = T extends Uint8Array ? Uint8Array : T;

/** In the order in which `find` selects them. */
export const KEY_COLUMNS = [
  'id',
  'namespace',
  'name',
  'purpose',
  'labels',
  'rotation',
  'deletion_protection',
  'primary_version',
  'min_usable_version',
  'latest_version',
  'suspended_at',
  'suspension_reason',
  'destroyed_at',
  'created_at',
  'revision',
  'mac',
  'publish',
  'aliases',
  'destroy_at',
  'destruction_requested_at',
  'destruction_reason',
  'origin',
  'exportable',
  'exports',
  'rotation_hold',
] as const satisfies readonly (keyof KeyRow)[];

export const ORIGINS = ['generated', 'imported'] as const satisfies readonly Key['origin'][];
const PURPOSES = ['wrap', 'kem', 'sign', 'mac'] as const satisfies readonly Key['purpose'][];

export const keyRow = ({ value: key, mac }: Attested<Key>): KeyRow => ({
  id: key.id,
  namespace: key.namespace,
  name: key.name,
  purpose: key.purpose,
  labels: key.labels,
  rotation: key.rotation && (policyJson(key.rotation) as unknown as KeyRow['rotation']),
  deletion_protection: key.deletionProtection,
  primary_version: key.primary,
  min_usable_version: key.minUsableVersion,
  latest_version: key.latestVersion,
  suspended_at: key.suspension?.at ?? null,
  suspension_reason: key.suspension?.reason ?? null,
  destroyed_at: key.destroyedAt,
  created_at: key.createdAt,
  revision: key.revision,
  mac,
  publish: key.publish,
  aliases: [...key.aliases],
  destroy_at: key.destruction?.at ?? null,
  destruction_requested_at: key.destruction?.requestedAt ?? null,
  destruction_reason: key.destruction?.reason ?? null,
  origin: key.origin,
  exportable: key.exportable,
  exports: exportsJson(key.exports),
  rotation_hold:
    key.rotationHold && (holdJson(key.rotationHold) as unknown as KeyRow['rotation_hold']),
});

/** @throws TwofoldError integrity_failed */
export const keyFromRow = (row: KeyRow): Attested<Key> => {
  const columns = new RowReader<KeyRow>('key', row);
  const value: Key = {
    id: columns.text('id'),
    namespace: columns.text('namespace'),
    name: columns.text('name'),
    aliases: columns.texts('aliases'),
    purpose: columns.one('purpose', PURPOSES),
    labels: columns.strings('labels'),
    rotation: rotation(columns),
    rotationHold: hold(columns),
    deletionProtection: columns.boolean('deletion_protection'),
    origin: columns.one('origin', ORIGINS),
    exportable: columns.boolean('exportable'),
    exports: exportsFrom(columns.json('exports')),
    publish: columns.boolean('publish'),
    primary: columns.maybeInteger('primary_version'),
    minUsableVersion: columns.integer('min_usable_version'),
    latestVersion: columns.integer('latest_version'),
    suspension: suspension(columns),
    destruction: destruction(columns),
    destroyedAt: columns.maybeTime('destroyed_at'),
    createdAt: columns.time('created_at'),
    revision: columns.integer('revision'),
  };
  const mac = columns.bytes('mac');
  columns.done();
  return { value, mac };
};

const exportsJson = (exports: readonly KeyExport[]): KeyRow['exports'] =>
  exports.map(({ version, at, suite, recipient, by, approval }) => ({
    version,
    at: at.toISOString(),
    suite,
    recipient: Buffer.from(recipient).toString('hex'),
    issuer: by.issuer,
    subject: by.subject,
    approval,
  }));

/** What else may be wrong with them the row's MAC tells. */
const exportsFrom = (json: unknown): readonly KeyExport[] => {
  if (!Array.isArray(json)) throw malformed('key.exports');
  return json.map((each: unknown) => {
    const row = { ...(each as Readonly<Record<string, unknown>> | null) };
    const { version, suite } = row;
    const text = (name: string): string => {
      const value = row[name];
      if (typeof value !== 'string') throw malformed(`key.exports.${name}`);
      return value;
    };
    const at = new Date(text('at'));
    if (!isWhole(version) || !isWhole(suite) || Number.isNaN(at.getTime())) {
      throw malformed('key.exports');
    }
    const recipient = Uint8Array.from(Buffer.from(text('recipient'), 'hex'));
    const by = { issuer: text('issuer'), subject: text('subject') };
    return { version, at, suite, recipient, by, approval: text('approval') };
  });
};

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value);

const rotation = (columns: RowReader<KeyRow>): RotationPolicy | null => {
  const json = columns.json('rotation');
  return json === null ? null : policyFromJson(json);
};

const hold = (columns: RowReader<KeyRow>): RotationHold | null => {
  const json = columns.json('rotation_hold');
  return json === null ? null : holdFromJson(json);
};

const suspension = (columns: RowReader<KeyRow>): Suspension | null =>
  columns.any(['suspended_at', 'suspension_reason'])
    ? { at: columns.time('suspended_at'), reason: columns.text('suspension_reason') }
    : null;

const DESTRUCTION = ['destroy_at', 'destruction_requested_at', 'destruction_reason'] as const;

interface DestructionColumns {
  any(columns: typeof DESTRUCTION): boolean;
  time(column: 'destroy_at' | 'destruction_requested_at'): Date;
  text(column: 'destruction_reason'): string;
}

/** A destruction to come, which keys and versions have in columns of the same names. */
export const destruction = (columns: DestructionColumns): Destruction | null =>
  columns.any(DESTRUCTION)
    ? {
        at: columns.time('destroy_at'),
        requestedAt: columns.time('destruction_requested_at'),
        reason: columns.text('destruction_reason'),
      }
    : null;
