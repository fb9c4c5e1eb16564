/**
 * Rows of `key_version`: one reading and one writing per state, each with just the columns that the
 * state can have.
 */
import type { Attested } from '../keyring/ports.ts';
import type { Destruction, KeyVersion, VersionState } from '../keyring/model.ts';
import type { key_versionModel } from './generated/models/key_version.ts';
import { ORIGINS, destruction } from './key-rows.ts';
import type { Column } from './key-rows.ts';
import { NO_MATERIAL, materialColumns, materialFromRow } from './material-columns.ts';
import { RowReader } from './rows.ts';

/** A row of `key_version`, column by column. */
export type VersionRow = { readonly [C in keyof key_versionModel]: Column<key_versionModel[C]> };

const STATES = [
  'pre-active',
  'active',
  'suspended',
  'deactivated',
  'compromised',
  'destroyed',
] as const satisfies readonly VersionState[];

const NO_HISTORY = {
  activate_at: null,
  activated_at: null,
  deactivate_at: null,
  suspended_at: null,
  deactivated_at: null,
  compromised_at: null,
  destroy_at: null,
  destruction_requested_at: null,
  destruction_reason: null,
  destroyed_at: null,
  reason: null,
} as const satisfies Partial<VersionRow>;

type History = { readonly [C in keyof typeof NO_HISTORY]: VersionRow[C] };

/** In the order in which `find` selects them. */
export const VERSION_COLUMNS: readonly (keyof VersionRow)[] = [
  'key_id',
  'version',
  'suite',
  'state',
  'created_at',
  'revision',
  ...(Object.keys(NO_HISTORY) as (keyof History)[]),
  ...(Object.keys(NO_MATERIAL) as (keyof typeof NO_MATERIAL)[]),
  'mac',
  'certificate_chain',
  'origin',
];

export const versionRow = ({ value: version, mac }: Attested<KeyVersion>): VersionRow => ({
  key_id: version.keyId,
  version: version.version,
  suite: version.suite,
  state: version.state,
  created_at: version.createdAt,
  revision: version.revision,
  ...NO_HISTORY,
  ...history(version),
  ...(version.state === 'destroyed' ? NO_MATERIAL : materialColumns(version.material)),
  mac,
  certificate_chain: version.certificateChain,
  origin: version.origin,
});

const history = (version: KeyVersion): Partial<History> => {
  switch (version.state) {
    case 'pre-active':
      return { activate_at: version.activateAt, ...destructionColumns(version) };
    case 'active':
      return { activated_at: version.activatedAt, deactivate_at: version.deactivateAt };
    case 'suspended':
      return {
        activated_at: version.activatedAt,
        deactivate_at: version.deactivateAt,
        suspended_at: version.suspension.at,
        ...destructionColumns(version),
        reason: version.suspension.reason,
      };
    case 'deactivated':
      return {
        activated_at: version.activatedAt,
        deactivated_at: version.deactivatedAt,
        ...destructionColumns(version),
        reason: version.reason,
      };
    case 'compromised':
      return {
        activated_at: version.activatedAt,
        compromised_at: version.compromisedAt,
        ...destructionColumns(version),
        reason: version.reason,
      };
    case 'destroyed':
      return {
        destroyed_at: version.destroyedAt,
        compromised_at: version.compromisedAt,
        reason: version.reason,
      };
  }
};

const destructionColumns = ({ destruction }: { readonly destruction: Destruction | null }) =>
  destruction === null
    ? {}
    : {
        destroy_at: destruction.at,
        destruction_requested_at: destruction.requestedAt,
        destruction_reason: destruction.reason,
      };

/** @throws TwofoldError integrity_failed */
export const versionFromRow = (row: VersionRow): Attested<KeyVersion> => {
  const columns = new RowReader<VersionRow>('key_version', row);
  const value = versionOf(columns);
  const mac = columns.bytes('mac');
  columns.done();
  return { value, mac };
};

const versionOf = (columns: RowReader<VersionRow>): KeyVersion => {
  const core = {
    keyId: columns.text('key_id'),
    version: columns.integer('version'),
    suite: columns.integer('suite'),
    origin: columns.one('origin', ORIGINS),
    createdAt: columns.time('created_at'),
    certificateChain: columns.maybeBytes('certificate_chain'),
    revision: columns.integer('revision'),
  };
  const state = columns.one('state', STATES);
  switch (state) {
    case 'pre-active':
      return {
        ...core,
        state,
        material: materialFromRow(columns),
        activateAt: columns.maybeTime('activate_at'),
        destruction: destruction(columns),
      };
    case 'active':
      return {
        ...core,
        state,
        material: materialFromRow(columns),
        activatedAt: columns.time('activated_at'),
        deactivateAt: columns.maybeTime('deactivate_at'),
      };
    case 'suspended':
      return {
        ...core,
        state,
        material: materialFromRow(columns),
        activatedAt: columns.time('activated_at'),
        deactivateAt: columns.maybeTime('deactivate_at'),
        suspension: { at: columns.time('suspended_at'), reason: columns.text('reason') },
        destruction: destruction(columns),
      };
    case 'deactivated':
      return {
        ...core,
        state,
        material: materialFromRow(columns),
        activatedAt: columns.time('activated_at'),
        deactivatedAt: columns.time('deactivated_at'),
        reason: columns.text('reason'),
        destruction: destruction(columns),
      };
    case 'compromised':
      return {
        ...core,
        state,
        material: materialFromRow(columns),
        activatedAt: columns.maybeTime('activated_at'),
        compromisedAt: columns.time('compromised_at'),
        reason: columns.text('reason'),
        destruction: destruction(columns),
      };
    case 'destroyed':
      return {
        ...core,
        state,
        destroyedAt: columns.time('destroyed_at'),
        compromisedAt: columns.maybeTime('compromised_at'),
        reason: columns.text('reason'),
      };
  }
};
