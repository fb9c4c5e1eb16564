/** A change as the parameters of `commit_change`. */
import type {
  Attested,
  ChangeCommit,
  IdempotencyRecord,
  KeyWrite,
  TokenIntent,
} from '../keyring/ports.ts';
import { pauseJson } from '../keyring/rotation-policy.ts';
import { approvalRow } from './approval-rows.ts';
import { bufferOf, entryValues } from './entry-columns.ts';
import { eventRow } from './event-rows.ts';
import { keyRow } from './key-rows.ts';
import { logKeysJson } from './log-key-store.ts';
import { LIVE_SECONDS } from './instance-store.ts';
import { writeJson as operationJson } from './operation-rows.ts';
import { policyRow } from './policy-store.ts';
import { byteaText, rowJson } from './rows.ts';
import { memberRow } from './set-store.ts';
import { versionRow } from './version-rows.ts';

export const COMMIT_CHANGE = {
  name: 'commit_change',
  text: `with change as materialized (select public.commit_change(
      $1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16) as epoch)
    select epoch, public.grace_held(epoch) as held from change`,
};

/** @throws TwofoldError invalid_value for text that cannot be stored. */
export const commitParameters = (change: ChangeCommit): readonly unknown[] => [
  change.epoch,
  JSON.stringify(change.writes.map(writeJson)),
  idempotencyJson(change.idempotency),
  JSON.stringify(scopeJson(change)),
  change.entry.lane,
  change.entry.n,
  bufferOf(change.entry.hmac),
  ...entryValues(change.entry),
];

/** One rotation of the root runs at a time, whatever else its author runs. */
const ANY_NUMBER = 2_147_483_647;

const scopeJson = ({ scope }: ChangeCommit) => ({
  scope: scope.scope,
  namespace: scope.namespace,
  key_id: scope.keyId,
  key_name: scope.keyName,
  also: scope.also ?? [],
});

const writeJson = (write: KeyWrite): object => {
  switch (write.kind) {
    case 'begin-root-rotation': {
      const { kind, generation, operation } = write;
      const inserted = operationJson({ kind: 'insert', operation, running: ANY_NUMBER });
      return { kind, generation, operation: inserted, live_seconds: LIVE_SECONDS };
    }
    case 'end-root-rotation':
      return { kind: write.kind, operation: operationJson(write.write) };
    case 'retire-root-generation':
      return { kind: write.kind, generation: write.generation };
    case 'insert-key':
      return { kind: write.kind, row: rowJson(keyRow(write.row)) };
    case 'update-key':
      return { kind: write.kind, row: rowJson(keyRow(write.row)), expected: write.expected };
    case 'insert-version':
      return { kind: write.kind, row: rowJson(versionRow(write.row)) };
    case 'update-version':
      return { kind: write.kind, row: rowJson(versionRow(write.row)), expected: write.expected };
    case 'use-import': {
      const { kind, id, expiresAt } = write;
      return { kind, id, ...rowJson({ expires_at: expiresAt }) };
    }
    case 'put-certificate-chain': {
      const { kind, keyId, version, pem } = write;
      return { kind, key_id: keyId, version, pem };
    }
    case 'delete-certificate-chain': {
      const { kind, keyId, version } = write;
      return { kind, key_id: keyId, version };
    }
    case 'hold-leadership': {
      const { kind, role, term, holder } = write;
      return { kind, role, term, holder };
    }
    case 'insert-run':
      return { kind: write.kind, row: rowJson(runRow(write)) };
    case 'rotate-by-order': {
      const { kind, operationId, keyId, version, at, expiresAt } = write;
      const times = { at, expires_at: expiresAt };
      return { kind, operation_id: operationId, key_id: keyId, version, ...rowJson(times) };
    }
    case 'insert-event':
      return { kind: write.kind, row: eventRow(write.event) };
    case 'put-rotation-policy':
      return { kind: write.kind, row: rowJson(policyRow(write.row)) };
    case 'delete-rotation-policy': {
      const { kind, namespace, name } = write;
      return { kind, namespace, name };
    }
    case 'put-policy-set': {
      const { value, mac } = write.row;
      const row = rowJson({ ...value, paused: pauseJson(value.paused), mac });
      return { kind: write.kind, row, expected: write.expected };
    }
    case 'require-policy-set': {
      const { kind, namespace, revision } = write;
      return { kind, namespace, revision };
    }
    case 'require-quota':
    case 'insert-namespace':
    case 'require-empty-namespace':
      return write;
    case 'put-member':
      return { kind: write.kind, row: rowJson(memberRow(write.row)) };
    case 'put-seal': {
      const { value, mac } = write.row;
      return { kind: write.kind, row: rowJson({ ...value, mac }), expected: write.expected };
    }
    case 'require-seal': {
      const { kind, set, namespace, revision } = write;
      return { kind, set, namespace, revision };
    }
    case 'insert-approval': {
      const { kind, bounds } = write;
      const most = { of_namespace: bounds.ofNamespace, of_principal: bounds.ofPrincipal };
      return { kind, row: rowJson(approvalRow(write.row)), ...most };
    }
    case 'update-approval':
      return { kind: write.kind, row: rowJson(approvalRow(write.row)), expected: write.expected };
    case 'intend-removal':
      return { kind: write.kind, row: rowJson(intentRow(write.row)) };
    case 'insert-log-keys':
      return { kind: write.kind, ...logKeysJson(write.pair) };
    case 'complete-intent':
      return { kind: write.kind, object_id: byteaText(write.objectId) };
  }
};

const intentRow = ({ value: intent, mac }: Attested<TokenIntent>) => ({
  object_id: intent.objectId,
  installation: intent.installation,
  token_serial: intent.tokenSerial,
  instance: intent.instance,
  created_at: intent.createdAt,
  mac,
});

const runRow = (run: Extract<KeyWrite, { readonly kind: 'insert-run' }>) => ({
  key_id: run.keyId,
  policy_revision: run.policyRevision,
  action: run.action,
  due_at: run.dueAt,
  cause: run.cause,
  version: run.version,
  done_at: run.doneAt,
  term: run.term,
});

/** The record as the functions take it. */
export const idempotencyJson = (record: ChangeCommit['idempotency']): string | null =>
  record === null ? null : JSON.stringify(rowJson(idempotencyRow(record)));

const idempotencyRow = ({ value: record, mac }: Attested<IdempotencyRecord>) => ({
  namespace: record.namespace,
  principal: record.principal,
  key: record.key,
  request_hash: record.requestHash,
  status: record.status,
  body: record.body,
  audit_id: record.auditId,
  mac,
});
