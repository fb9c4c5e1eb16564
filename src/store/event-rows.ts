/** Events as rows. */
import type { NewEvent, StoredEvent } from '../keyring/event-ports.ts';
import type { event } from './generated/client.ts';
import { rowJson } from './rows.ts';

/** As `write_insert_event` takes it, which adds epoch and time. */
export const eventRow = (written: NewEvent): Readonly<Record<string, unknown>> =>
  rowJson({
    n: written.n,
    type: written.type,
    namespace: written.namespace,
    key_id: written.keyId,
    key_name: written.keyName,
    audit_id: written.auditId,
    data: written.data,
  });

/** As pg reads it: `bigint` is text. */
export type EventRow = Omit<event, 'epoch'> & { readonly epoch: string };

export const eventFromRow = (row: EventRow): StoredEvent => ({
  epoch: Number(row.epoch),
  n: row.n,
  type: row.type,
  namespace: row.namespace,
  keyId: row.key_id,
  keyName: row.key_name,
  at: row.at,
  auditId: row.audit_id,
  data: (row.data ?? {}) as StoredEvent['data'],
});
