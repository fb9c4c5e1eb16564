/** Changes of the whole installation that concern a generation of the root: each says so under its own name. */
import { randomUUID } from 'node:crypto';

import type { AuditDraft } from '../audit/ports.ts';
import type { ChangeSubject } from './changes.ts';

export interface RootChange {
  readonly generation: number;
  readonly detail: AuditDraft['detail'];
}

/** @param nameOf the name of the change (`root-ports.ts`), by which instances know it */
export const changeOfRoot = <C extends RootChange>(
  nameOf: (generation: number) => string,
): ChangeSubject<C> => ({
  touched: ({ generation }) => ({
    keyId: null,
    keyName: nameOf(generation),
    also: [],
    reach: 'installation',
  }),
  facts: ({ detail }) => ({
    ...{ keyRef: null, keyId: null, keyVersion: null, suite: null },
    detail,
  }),
  events: () => [],
});

/** Of a change that no request asks for. */
export const unasked = (source: string) =>
  ({
    requestId: randomUUID(),
    source,
    dryRun: false,
    ended: Promise.resolve(),
    ifMatch: null,
    idempotency: null,
    render: () => ({ status: 200, body: '{}' }),
  }) as const;
