/**
 * The end of a generation of the root, for the command that then destroys its object on the token: the
 * database proves in one transaction that nothing is under it, and every instance drops what it had read.
 */
import { randomUUID } from 'node:crypto';

import type { Grant } from '../access/grant.ts';
import { Changes, plainPlan } from '../keyring/changes.ts';
import type { ChangeParts, ChangeSubject } from '../keyring/changes.ts';
import { retiredName } from '../keyring/root-ports.ts';
import { requireRoot } from './namespaces.ts';

interface Retirement {
  readonly generation: number;
}

const SUBJECT: ChangeSubject<Retirement> = {
  touched: ({ generation }) => ({
    keyId: null,
    keyName: retiredName(generation),
    also: [],
    reach: 'installation',
  }),
  facts: ({ generation }) => ({
    ...{ keyRef: null, keyId: null, keyVersion: null, suite: null },
    detail: { generation },
  }),
  events: () => [],
};

/**
 * Resolves once it is durable that nothing is under the generation.
 * @throws TwofoldError conflict where something refers to it, a rotation runs, or it is not retiring
 */
export async function commitRetirement(
  parts: ChangeParts,
  grant: Grant<'root.retire'>,
  generation: number,
): Promise<void> {
  requireRoot(grant);
  await new Changes(parts, SUBJECT).run(
    grant,
    {
      dryRun: false,
      requestId: randomUUID(),
      ended: Promise.resolve(),
      source: 'local',
      ifMatch: null,
      idempotency: null,
      render: () => ({ status: 200, body: '{}' }),
    },
    () =>
      Promise.resolve(plainPlan({ generation }, [{ kind: 'retire-root-generation', generation }])),
  );
}
